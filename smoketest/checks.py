"""System checks: wrong settings, and a results store that does not work."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import (
    CheckMessage,
    Error,
    Info,
    Tags,
    Warning,  # noqa: A004
    register,
)
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from smoketest.conf import Conf, InvalidSettingError, Settings, unknown_settings
from smoketest.isolation import VENDORS
from smoketest.services import state_folder
from smoketest.store import SharedStore, StoreError
from smoketest.store.directory import StateError

TAG = "smoketest"


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Each setting has a value that it may have (its `check_id`), and a meaning (W001)."""
    messages: list[CheckMessage] = []
    names: list[str] = []
    for group in _groups():
        names += group.settings
        for setting in group.settings.values():
            try:
                setting.__get__(group(), group)
            except InvalidSettingError as error:
                hint = f"The default is {setting.default!r}."
                messages.append(Error(str(error), hint=hint, id=setting.check_id))
    for name, meant in unknown_settings(names).items():
        hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(names)}."
        messages.append(Warning(f"{name} is no setting.", hint=hint, id="smoketest.W001"))
    return messages


def _groups() -> list[type[Settings]]:
    """The settings of the package, and those of the apps with ready-made smoke tests."""
    return [
        Conf,
        *(app.smoke_settings for app in apps.get_app_configs() if hasattr(app, "smoke_settings")),
    ]


def can_use_django_prometheus() -> bool:
    """Whether the site wants its metrics there, and has it."""
    wanted = getattr(settings, Conf.django_prometheus.name, False) is True
    return wanted and find_spec("django_prometheus") is not None


@register(TAG)
def check_django_prometheus(**_: Any) -> list[CheckMessage]:
    """What SMOKETEST_DJANGO_PROMETHEUS needs is there (E014)."""
    wanted = getattr(settings, Conf.django_prometheus.name, False) is True
    if not wanted or can_use_django_prometheus():
        return []
    return [
        Error(
            f"{Conf.django_prometheus.name} is True, but django-prometheus is not installed.",
            hint='Install it: pip install "django-smoketest[django-prometheus]".',
            id="smoketest.E014",
        )
    ]


@register(TAG)
def check_store(**_: Any) -> list[CheckMessage]:
    """The results store can be used (W002, W003), and never had to begin anew (W004)."""
    try:
        store = SharedStore(state_folder())
    except InvalidSettingError:
        return []  # check_settings complains of it
    except StateError as error:
        return [
            Warning(
                f"Results are kept in the memory of each process alone. {error}",
                hint="Until then metrics have no totals, and processes do not share results.",
                id="smoketest.W002",
            )
        ]
    try:
        store.snapshot()
    except StoreError as error:
        return [Warning(str(error), hint="No results are stored.", id="smoketest.W003")]
    return [
        Warning(
            f"The results store was corrupt and was moved to {path}.",
            hint="Look at the disk, then delete that file.",
            id="smoketest.W004",
        )
        for path in store.set_aside
    ]


@register(TAG, deploy=True)
def check_access(**_: Any) -> list[CheckMessage]:
    """The endpoint is not open to everybody in production (W006)."""
    if getattr(settings, Conf.tokens.name, Conf.tokens.default):
        return []
    return [
        Warning(
            f"{Conf.tokens.name} is empty: whoever can reach the smoke tests sees their results.",
            hint=f"Set {Conf.tokens.name} to a list with a token, made by python -c 'import"
            " secrets; print(secrets.token_urlsafe())'; or keep the URL inside of your network"
            " and silence this check.",
            id="smoketest.W006",
        )
    ]


@register(TAG)
def check_vendors(**_: Any) -> list[CheckMessage]:
    """The databases are of kinds that isolation knows (I001)."""
    messages: list[CheckMessage] = []
    for alias in connections:
        vendor = _vendor(alias)
        if vendor and vendor not in VENDORS:
            messages.append(
                Info(
                    f"Smoke tests on database {alias!r} ({vendor}) are rolled back, and no more:"
                    " there are no time-outs inside the database, what a hung test holds is free"
                    " when its thread ends, and read_only is up to the test.",
                    hint=f"Known databases are {', '.join(VENDORS)}. Let tests that write leave"
                    " this one out by their `databases`, or silence this check.",
                    id="smoketest.I001",
                )
            )
    return messages


def _vendor(alias: str) -> str:
    """The kind of a database; empty if its driver is missing, of which Django complains."""
    try:
        return connections[alias].vendor
    except ImproperlyConfigured:
        return ""


#: Tables whose engine knows no transactions.
_NOT_TRANSACTIONAL = """
    SELECT t.table_name, t.engine FROM information_schema.tables t
    JOIN information_schema.engines e ON e.engine = t.engine
    WHERE t.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' AND e.transactions <> 'YES'
    ORDER BY t.table_name
"""


@register(Tags.database)  # asked for by `check --database`; no run waits for it
def check_tables(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """What a smoke test writes to a table can be rolled back (W005); asks the database."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if _vendor(alias) != "mysql":
            continue
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(_NOT_TRANSACTIONAL)
                tables = ", ".join(f"{name} ({engine})" for name, engine in cursor.fetchall())
        except DatabaseError:
            continue  # it is down; whoever uses it says so
        if tables:
            messages.append(
                Warning(
                    f"Tables of database {alias!r} cannot be rolled back: {tables}.",
                    hint="What a smoke test writes to them stays. Convert them: ALTER TABLE ..."
                    " ENGINE = InnoDB.",
                    id="smoketest.W005",
                )
            )
    return messages
