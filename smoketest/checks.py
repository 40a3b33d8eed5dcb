"""System checks of the settings, the results store, access and the databases."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

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
from django.urls import URLResolver, get_resolver

from smoketest.conf import Conf, InvalidSettingError, Settings, conf, unknown_settings
from smoketest.isolation import VENDORS, is_supported
from smoketest.runner.overlooked import contains_assert
from smoketest.services import state_folder
from smoketest.store import SharedStore, StoreError
from smoketest.store.directory import StateError

TAG = "smoketest"

logger = logging.getLogger("smoketest")


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Check the values of settings (see `Setting.check_id`), and for unknown settings (W001)."""
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
    for name, hint in unknown_settings(names).items():
        messages.append(Warning(f"Unknown setting {name}.", hint=hint, id="smoketest.W001"))
    return messages


def _groups() -> list[type[Settings]]:
    """Return the settings of the package and of the installed apps with built-in checks."""
    return [
        Conf,
        *(app.smoke_settings for app in apps.get_app_configs() if hasattr(app, "smoke_settings")),
    ]


def can_use_django_prometheus() -> bool:
    """Return whether SMOKETEST_DJANGO_PROMETHEUS is True and django-prometheus is installed."""
    is_enabled = getattr(settings, Conf.django_prometheus.name, False) is True
    return is_enabled and find_spec("django_prometheus") is not None


def log_short_harakiri() -> None:
    """Log an error if uWSGI ends requests before the deadline of a run.

    It is not a system check, because uWSGI does not run system checks, and ``manage.py check``
    cannot read its options.
    """
    options = getattr(sys.modules.get("uwsgi"), "opt", {})
    try:
        harakiri, run_timeout = int(options.get("harakiri", 0)), conf.run_timeout
    except (TypeError, ValueError, InvalidSettingError):
        return
    if 0 < harakiri <= run_timeout:
        logger.error(
            "uWSGI ends requests after %d s (harakiri), but a run of the smoke tests may take %g s"
            " (%s). Set harakiri to more than twice that time, because a request may also wait for"
            " another run.",
            harakiri,
            run_timeout,
            Conf.run_timeout.name,
        )


@register(TAG)
def check_django_prometheus(**_: Any) -> list[CheckMessage]:
    """Check that django-prometheus is installed if the setting requires it (E014)."""
    is_enabled = getattr(settings, Conf.django_prometheus.name, False) is True
    if not is_enabled or can_use_django_prometheus():
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
    """Check that the results store can be used (W002, W003), is safe (E018) and intact (W004)."""
    try:
        folder = state_folder()
    except InvalidSettingError:
        return []  # reported by check_settings
    except StateError as error:
        return [
            Warning(
                f"There is no shared results store. {error}",
                hint="Until then, each process keeps its results in memory, scrapes start no runs,"
                " and the counters are not exported.",
                id="smoketest.W002",
            )
        ]
    if folder.is_open_to_everyone:
        return [
            Error(
                f"Every user of this host can replace files in {folder.path} and forge results.",
                hint=f"Remove the permission with chmod o-w {folder.path}. If it is the root of a"
                " volume, set SMOKETEST_STATE_DIR to a folder in it, which is then created with"
                " mode 0700.",
                id="smoketest.E018",
            )
        ]
    store = SharedStore(folder)
    try:
        store.snapshot()
    except StoreError as error:
        hint = "Until this is fixed, results are not stored."
        return [Warning(str(error), hint=hint, id="smoketest.W003")]
    return [
        Warning(
            f"The results store was corrupt. It was moved to {path} and replaced by an empty one.",
            hint="Check the disk for errors, then delete that file.",
            id="smoketest.W004",
        )
        for path in store.set_aside
    ]


@register(TAG)
def check_assert_statements(**_: Any) -> list[CheckMessage]:
    """Check that Python has not removed assert statements from smoke modules (E020)."""
    if not sys.flags.optimize:
        return []
    paths = [
        path
        for app in apps.get_app_configs()
        for path in (Path(app.path, "smoke.py"), *Path(app.path, "smoke").rglob("*.py"))
        if contains_assert(path)
    ]
    return [
        Error(
            f"Python runs with -O, which removes the assert statements of {path}.",
            hint="Run Python without -O and PYTHONOPTIMIZE, or use methods such as"
            " self.assertTrue(). Until then, these smoke tests are reported as errored.",
            id="smoketest.E020",
        )
        for path in paths
    ]


@register(TAG, deploy=True)
def check_access(**_: Any) -> list[CheckMessage]:
    """Check that access to the endpoints requires a token (W006)."""
    if getattr(settings, Conf.tokens.name, Conf.tokens.default):
        return []
    return [
        Warning(
            f"{Conf.tokens.name} is empty, so all clients can see the results of the smoke tests.",
            hint=f"Set {Conf.tokens.name} to a list with a token. To generate one, run python -c"
            " 'import secrets; print(secrets.token_urlsafe())'. If the endpoints can only be"
            " reached from your network, silence this check.",
            id="smoketest.W006",
        )
    ]


@register(TAG)
def check_middleware(**_: Any) -> list[CheckMessage]:
    """Check that SmokeTestMiddleware finds the endpoints in its URLconf (W009)."""
    try:
        urlconf = conf.urlconf or getattr(settings, "ROOT_URLCONF", "")
    except InvalidSettingError:
        return []  # reported by check_settings
    uses_middleware = "smoketest.middleware.SmokeTestMiddleware" in settings.MIDDLEWARE
    if not (uses_middleware or conf.urlconf):
        return []
    try:
        if _includes_endpoints(get_resolver(urlconf)):
            return []
        problem = f"{urlconf} does not include smoketest.urls"
    except ImportError as error:
        problem = f"{urlconf} cannot be imported ({error})"
    except ImproperlyConfigured as error:
        problem = str(error)
    return [
        Warning(
            f"SmokeTestMiddleware finds nothing to serve: {problem}.",
            hint=f"Add smoketest.urls to it with include(), or set {Conf.urlconf.name} to the"
            " URLconf that includes them.",
            id="smoketest.W009",
        )
    ]


def _includes_endpoints(resolver: URLResolver) -> bool:
    return any(
        isinstance(pattern, URLResolver)
        and (pattern.app_name == "smoketest" or _includes_endpoints(pattern))
        for pattern in resolver.url_patterns
    )


@register(Tags.security)  # not in manage.py smoketest, which would print it at each run
def check_public_details(**_: Any) -> list[CheckMessage]:
    """Report what clients without full access see of results in production (I002)."""
    has_tokens = bool(getattr(settings, Conf.tokens.name, Conf.tokens.default))
    if settings.DEBUG or has_tokens:
        return []
    try:
        is_public = Conf().shows_details_to_all
    except InvalidSettingError:
        return []  # reported by check_settings
    shown = (
        "the messages of all results, which may contain data of the site"
        if is_public
        else "no messages except those that tests pass to assertions"
    )
    return [
        Info(
            f"Clients without a token or a staff session see the names and outcomes of smoke tests,"
            f" and {shown}.",
            hint=f"{Conf.public_details.name} is"
            f" {getattr(settings, Conf.public_details.name, None)}; set it to {not is_public} for"
            f" the opposite. To deny these clients access, set {Conf.tokens.name}.",
            id="smoketest.I002",
        )
    ]


#: Names that many Django projects use, so they do not identify one of several sites.
_GENERIC_NAMES = frozenset({
    "app", "apps", "backend", "base", "conf", "config", "core", "default", "django", "example",
    "main", "mysite", "project", "server", "settings", "site", "smoketest", "src", "web", "webapp",
    "website",
})  # fmt: skip


@register(TAG)
def check_project(**_: Any) -> list[CheckMessage]:
    """Check that the name of the site is not one that other sites use as well (W007)."""
    project = getattr(settings, Conf.project.name, "")
    if not isinstance(project, str) or project.lower() not in _GENERIC_NAMES:
        return []
    return [
        Warning(
            f"{Conf.project.name} is {project!r}, which may also be the name of another site.",
            hint="Use a name that no other site on the same Prometheus has, such as its host name."
            " Alerts and dashboards cannot distinguish sites with the same name.",
            id="smoketest.W007",
        )
    ]


@register(TAG)
def check_vendors(**_: Any) -> list[CheckMessage]:
    """Check that the database vendors are fully supported (I001)."""
    messages: list[CheckMessage] = []
    for alias in connections:
        vendor = _vendor(alias)
        is_database = connections.settings[alias]["ENGINE"] != _NO_DATABASE
        if vendor and is_database and not is_supported(type(connections[alias])):
            messages.append(
                Info(
                    f"Database {alias!r} ({vendor}) is not fully supported. Smoke tests are rolled"
                    " back, but the database does not enforce timeouts and `read_only`, and a hung"
                    " test keeps its locks until its thread ends.",
                    hint=f"Supported databases are {', '.join(VENDORS)}. A third-party backend for"
                    " one of them has to derive from Django's. Exclude this database from the"
                    " `databases` attribute of tests that write, or silence this check.",
                    id="smoketest.I001",
                )
            )
    return messages


#: Backend of sites without a database.
_NO_DATABASE = "django.db.backends.dummy"


def _vendor(alias: str) -> str:
    """Return the vendor; empty if the driver is missing, which Django reports."""
    try:
        return connections[alias].vendor
    except ImproperlyConfigured:
        return ""


#: Tables with a storage engine that does not support transactions.
_NOT_TRANSACTIONAL = """
    SELECT t.table_name, t.engine FROM information_schema.tables t
    JOIN information_schema.engines e ON e.engine = t.engine
    WHERE t.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' AND e.transactions <> 'YES'
    ORDER BY t.table_name
"""


@register(Tags.database)  # queries the database, so only `check --database` runs it
def check_tables(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check that all MySQL and MariaDB tables support transactions (W005)."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if _vendor(alias) != "mysql":
            continue
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(_NOT_TRANSACTIONAL)
                tables = ", ".join(f"{name} ({engine})" for name, engine in cursor.fetchall())
        except DatabaseError:
            continue  # the database is down, which is not the subject of this check
        if tables:
            messages.append(
                Warning(
                    f"Writes to these tables of database {alias!r} cannot be rolled back:"
                    f" {tables}.",
                    hint="Convert them with ALTER TABLE ... ENGINE = InnoDB. Until then, smoke"
                    " tests must not write to them.",
                    id="smoketest.W005",
                )
            )
    return messages


@register(Tags.database)
def check_journal_mode(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check that SQLite files use a write-ahead log (W008).

    In the other journal modes, readers and the writer of a file wait for each other:
    https://www.sqlite.org/wal.html
    """
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if _vendor(alias) != "sqlite":
            continue
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute("PRAGMA journal_mode")
                (mode,) = cursor.fetchone()
        except DatabaseError:
            continue  # the file cannot be opened, which is not the subject of this check
        if mode != "wal" and not cast("Any", connections[alias]).is_in_memory_db():
            messages.append(
                Warning(
                    f"Database {alias!r} has the journal mode {mode!r}, in which a smoke test that"
                    " reads in atomic() blocks all writes of the site until it ends.",
                    hint=f'Set DATABASES[{alias!r}]["OPTIONS"] = {{"init_command": "PRAGMA'
                    ' journal_mode=WAL;"}.',
                    id="smoketest.W008",
                )
            )
    return messages
