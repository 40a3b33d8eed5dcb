"""System checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import (
    INFO,
    CheckMessage,
    Error,
    Warning,  # noqa: A004
    run_checks,
)
from django.db import connections

from smoketest.checks import check_middleware, check_tables
from smoketest.conf import Conf
from smoketest.isolation import VENDORS
from smoketest.store import FILE_NAME, SharedStore
from smoketest.store.directory import StateFolder
from tests.builders import make_report, make_result

#: A value that is invalid for every setting.
WRONG = object()
TOKENS = ["a-token-of-some-length"]


def check_messages() -> list[CheckMessage]:
    """Return the messages of the package's checks, sorted by id."""
    return sorted(run_checks(tags=["smoketest"]), key=lambda message: str(message.id))


def check_ids() -> list[str | None]:
    return [message.id for message in check_messages()]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> SharedStore:
    """Return the results store of the site."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    settings.SMOKETEST_TOKENS = TOKENS
    return SharedStore(StateFolder(tmp_path, 0o600))


def test_check__defaults(store: SharedStore) -> None:
    """The default settings have no messages, with and without stored results."""
    assert check_messages() == []
    store.record(make_report(make_result()))
    assert check_messages() == []


@pytest.mark.parametrize(
    ("name", "check_id"),
    [
        ("SMOKETEST_SKIP_APPS", "smoketest.E001"),
        ("SMOKETEST_TIMEOUT", "smoketest.E002"),
        ("SMOKETEST_SLOW_AFTER", "smoketest.E003"),
        ("SMOKETEST_RUN_TIMEOUT", "smoketest.E004"),
        ("SMOKETEST_LOCK_TIMEOUT", "smoketest.E005"),
        ("SMOKETEST_WORKERS", "smoketest.E006"),
        ("SMOKETEST_INTERVAL", "smoketest.E007"),
        ("SMOKETEST_MAX_AGE", "smoketest.E008"),
        ("SMOKETEST_STATE_DIR", "smoketest.E009"),
        ("SMOKETEST_PUBLIC_URL", "smoketest.E010"),
        ("SMOKETEST_RELEASE", "smoketest.E011"),
        ("SMOKETEST_RUN_ON_SCRAPE", "smoketest.E012"),
        ("SMOKETEST_DJANGO_PROMETHEUS", "smoketest.E013"),
        ("SMOKETEST_TOKENS", "smoketest.E015"),
        ("SMOKETEST_PUBLIC_STATUS", "smoketest.E016"),
        ("SMOKETEST_PROJECT", "smoketest.E017"),
        ("SMOKETEST_URLCONF", "smoketest.E019"),
        ("SMOKETEST_PUBLIC_DETAILS", "smoketest.E021"),
    ],
)
def test_check_settings__invalid(name: str, check_id: str, settings: Any) -> None:
    """Each setting has its own check id; the message states what is allowed."""
    setattr(settings, name, WRONG)
    setting: Any = Conf.settings[name]
    displayed = (
        "invalid" if name == "SMOKETEST_TOKENS" else repr(WRONG)
    )  # secrets are not displayed
    assert check_messages() == [
        Error(
            f"{name} is {displayed}; it must be {setting.allowed}.",
            hint=f"The default is {setting.default!r}.",
            id=check_id,
        )
    ]


def test_check_settings__all_invalid(settings: Any) -> None:
    """Each invalid setting has one message."""
    for name in Conf.settings:
        setattr(settings, name, WRONG)
    assert check_ids() == sorted(setting.check_id for setting in Conf.settings.values())


def test_check_settings__unknown(settings: Any) -> None:
    """An unknown setting is a warning with a suggestion or the list of settings."""
    settings.SMOKETEST_WORKER = 2
    settings.SMOKETEST_ZZZZZZZZZZZZ = 1
    assert check_messages() == [
        Warning(
            "Unknown setting SMOKETEST_WORKER.",
            hint="Did you mean SMOKETEST_WORKERS?",
            id="smoketest.W001",
        ),
        Warning(
            "Unknown setting SMOKETEST_ZZZZZZZZZZZZ.",
            hint=f"The settings are {', '.join(Conf.settings)}.",
            id="smoketest.W001",
        ),
    ]


@pytest.mark.parametrize("name", ["config", "Core", "settings", "project", "mysite"])
def test_check_project__generic_name(settings: Any, name: str) -> None:
    """A name that many projects have does not identify a site."""
    settings.SMOKETEST_PROJECT = name
    (message,) = check_messages()
    assert (message.id, message.msg) == (
        "smoketest.W007",
        f"SMOKETEST_PROJECT is {name!r}, which may also be the name of another site.",
    )
    assert message.hint
    settings.SMOKETEST_PROJECT = "shop.example.com"
    assert check_messages() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ROOT_URLCONF": "tests.urls"}, ""),
        ({"ROOT_URLCONF": "tests.ledger", "SMOKETEST_URLCONF": "tests.urls"}, ""),
        ({"ROOT_URLCONF": ()}, "does not include smoketest.urls"),
        ({"SMOKETEST_URLCONF": "no.such.urls"}, "no.such.urls cannot be imported"),
        ({"SMOKETEST_URLCONF": "tests.builders"}, "tests.builders"),
        ({"ROOT_URLCONF": (), "MIDDLEWARE": []}, ""),
    ],
)
def test_check_middleware(settings: Any, changes: dict[str, Any], problem: str) -> None:
    """A middleware that finds no endpoints is reported."""
    settings.MIDDLEWARE = ["smoketest.middleware.SmokeTestMiddleware"]
    for name, value in changes.items():
        setattr(settings, name, value)
    messages = check_middleware()
    assert len(messages) == bool(problem)
    for message in messages:
        assert (message.id, problem in message.msg) == ("smoketest.W009", True)


def test_check_store__unusable_directory(tmp_path: Path, settings: Any) -> None:
    """A directory that cannot be used is a warning, because the site works without it."""
    (tmp_path / "file").touch()
    settings.SMOKETEST_STATE_DIR = str(tmp_path / "file")
    (message,) = check_messages()
    assert isinstance(message, Warning)
    assert message.id == "smoketest.W002"
    assert message.msg == (
        "There is no shared results store."
        f" {tmp_path / 'file'} cannot be created: File exists."
        " Set SMOKETEST_STATE_DIR to a folder that every process of the site can write."
    )
    assert message.hint


def test_check_store__open_to_everyone(tmp_path: Path, settings: Any) -> None:
    """Results in a directory that every user can write could be forged."""
    tmp_path.chmod(0o777)
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    (message,) = check_messages()
    assert isinstance(message, Error)
    assert message.id == "smoketest.E018"
    assert message.hint
    assert f"chmod o-w {tmp_path}" in message.hint


def test_check_store__newer_schema(store: SharedStore) -> None:
    assert check_ids() == []
    with closing(sqlite3.connect(store.location)) as database:
        database.execute("PRAGMA user_version = 99")
    (message,) = check_messages()
    assert isinstance(message, Warning)
    assert message.id == "smoketest.W003"
    assert message.msg.startswith(f"{store.location} was written by a newer django-smoketest")
    assert message.hint


def test_check_store__corrupt(store: SharedStore) -> None:
    Path(store.location).write_bytes(b"garbage")
    assert check_ids() == ["smoketest.W003"]
    (aside,) = store.set_aside
    assert check_messages() == [
        Warning(
            f"The results store was corrupt. It was moved to {aside} and replaced by an empty one.",
            hint="Check the disk for errors, then delete that file.",
            id="smoketest.W004",
        )
    ]
    aside.unlink()
    assert check_ids() == []


def test_check_store__corrupt_twice(store: SharedStore, tmp_path: Path) -> None:
    """Each file that was set aside is reported once."""
    for number in (1, 2):
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"{FILE_NAME}.corrupt-{number}{suffix}").touch()
    assert [str(message.msg) for message in check_messages()] == [
        f"The results store was corrupt. It was moved to {store.location}.corrupt-{number} and"
        " replaced by an empty one."
        for number in (1, 2)
    ]


def test_check_access__no_tokens(settings: Any) -> None:
    """An endpoint without tokens is reported only by `check --deploy`."""
    settings.SMOKETEST_TOKENS = []
    assert "smoketest.W006" not in check_ids()
    deployed = run_checks(tags=["smoketest"], include_deployment_checks=True)
    assert {message.id for message in deployed} == {"smoketest.W006"}
    settings.SMOKETEST_TOKENS = TOKENS
    assert run_checks(tags=["smoketest"], include_deployment_checks=True) == []


@pytest.mark.parametrize(
    ("value", "shown", "opposite"),
    [
        (None, "no messages except those that tests pass to assertions", True),
        (False, "no messages except those that tests pass to assertions", True),
        (True, "the messages of all results, which may contain data of the site", False),
    ],
)
def test_check_public_details(
    settings: Any, value: bool | None, shown: str, opposite: bool
) -> None:
    """A site without tokens is told in which mode it is, unless DEBUG is on."""
    settings.SMOKETEST_TOKENS = []
    settings.SMOKETEST_PUBLIC_DETAILS = value
    (message,) = run_checks(tags=["security"])
    assert (message.id, message.level) == ("smoketest.I002", INFO)
    assert message.msg.endswith(f", and {shown}.")
    assert message.hint is not None
    assert f"is {value}; set it to {opposite} for the opposite." in message.hint
    settings.DEBUG = True
    assert run_checks(tags=["security"]) == []


def test_check_vendors__unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without an isolation backend is reported with what is not guaranteed."""
    monkeypatch.delitem(VENDORS, "sqlite")
    messages = check_messages()
    assert [(message.id, message.level) for message in messages] == 2 * [("smoketest.I001", INFO)]
    assert messages[0].msg.startswith("Database 'default' (sqlite) is not fully supported.")
    assert "Supported databases are postgresql, mysql." in str(messages[0].hint)


def test_check_vendors__no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site without a database has nothing to report."""
    no_database = {"ENGINE": "django.db.backends.dummy"}
    monkeypatch.setitem(connections.settings, "none", connections.settings["default"] | no_database)
    assert connections["none"].vendor == "unknown"
    assert check_messages() == []


def test_check_vendors__missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database whose driver is missing is left to Django's checks."""
    broken = {"ENGINE": "tests.no_such_backend", "NAME": "x"}
    monkeypatch.setitem(connections.settings, "broken", broken)
    assert check_messages() == []


def test_check_tables__transactional() -> None:
    """Databases whose tables are all transactional have no message."""
    assert check_tables(databases=None) == check_tables(databases=["default"]) == []
