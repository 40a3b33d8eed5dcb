"""Services created from the settings: state, run options and coordinator."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from django.apps import apps as django_apps
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from smoketest.conf import InvalidSettingError
from smoketest.results import Selection
from smoketest.runner.loader import find
from smoketest.runner.options import RunOptions
from smoketest.services import (
    coordinator,
    load_site,
    run_options,
    shared_site_identity,
    site_identity,
    state,
    state_folder,
)
from smoketest.store import FILE_NAME, MemoryStore, SharedStore
from smoketest.store.abandoned import AbandonedOnHost, LocallyAbandoned
from smoketest.store.locks import HostLock, ProcessLock

DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "db",
    "PORT": "5432",
    "NAME": "site",
    "USER": "ada",
    "PASSWORD": "correct horse",
    "OPTIONS": {"sslpassword": "battery staple"},
}

#: The databases are configured but not connected to.
sets_databases = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES:UserWarning")


def set_unusable_state_dir(tmp_path: Path, settings: Any) -> str:
    """Set SMOKETEST_STATE_DIR to a file and return its path."""
    path = tmp_path / "file"
    path.touch()
    settings.SMOKETEST_STATE_DIR = str(path)
    return str(path)


def test_state__shared(tmp_path: Path, settings: Any) -> None:
    """With a state directory, results, locks and abandoned tests are shared by the host."""
    settings.SMOKETEST_STATE_DIR = tmp_path
    shared = state()
    assert isinstance(shared.store, SharedStore)
    assert shared.store.location == str(tmp_path / FILE_NAME)
    assert shared.store.snapshot().is_up
    assert isinstance(shared.abandoned, AbandonedOnHost)
    release = shared.abandoned.hold(["a.A.test"], 1.0)
    assert len(list(tmp_path.glob("abandoned-*.json"))) == 1
    release()
    assert isinstance(shared.run_lock, HostLock)
    assert all(isinstance(lock, HostLock) for lock in shared.waiting_locks)
    assert state() is shared


def test_state__changed_setting(tmp_path: Path, settings: Any) -> None:
    """A changed setting takes effect at once."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path / "one")
    one = state()
    settings.SMOKETEST_STATE_DIR = str(tmp_path / "two")
    assert state().store.location == str(tmp_path / "two" / FILE_NAME)
    assert one.store.location == str(tmp_path / "one" / FILE_NAME)


@pytest.mark.parametrize("is_shared", [True, False])
def test_state__locks(tmp_path: Path, settings: Any, is_shared: bool) -> None:
    """There are one run lock and two waiting locks, independent of each other."""
    if is_shared:
        settings.SMOKETEST_STATE_DIR = str(tmp_path)
    else:
        set_unusable_state_dir(tmp_path, settings)
    current = state()
    assert len(current.waiting_locks) == 2
    locks = [current.run_lock, *current.waiting_locks]
    releases = [lock.acquire() for lock in locks]
    assert None not in releases
    assert [lock.acquire() for lock in locks] == [None] * 3
    for release in releases:
        assert release is not None
        release()


def test_state__not_shared(tmp_path: Path, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Without a state directory, the process has its own state and logs an error once."""
    path = set_unusable_state_dir(tmp_path, settings)
    with caplog.at_level(logging.ERROR, "smoketest"):
        own = state()
        assert state() == own
        assert coordinator().store is own.store
    assert isinstance(own.store, MemoryStore)
    assert not own.store.snapshot().is_up
    assert not own.store.snapshot().is_shared
    assert isinstance(own.abandoned, LocallyAbandoned)
    assert isinstance(own.run_lock, ProcessLock)
    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert entry.getMessage() == (
        "There is no shared results store."
        f" {path} cannot be created: File exists."
        " Set SMOKETEST_STATE_DIR to a folder that every process of the site can write."
    )


def test_state__repaired_directory(tmp_path: Path, settings: Any) -> None:
    """Once the directory can be used, the state is shared without a restart."""
    path = Path(set_unusable_state_dir(tmp_path, settings))
    assert not state().store.is_shared
    path.unlink()
    assert state().store.is_shared
    assert path.is_dir()


@sets_databases
def test_state_folder__two_sites_with_the_same_setting(tmp_path: Path, settings: Any) -> None:
    """Sites differ in their URLs or databases; processes of a site may differ in other settings."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    settings.DATABASES = {"default": DATABASE}
    assert state_folder().path == tmp_path
    pooled = {"default": {**DATABASE, "PORT": 6432}, "replica": DATABASE}
    with override_settings(SETTINGS_MODULE="shop.settings.cron", DATABASES=pooled):
        assert state_folder().path == tmp_path
    with override_settings(ROOT_URLCONF="blog.urls"):
        blog = state_folder().path
    with override_settings(DATABASES={"default": {**DATABASE, "NAME": "other"}}):
        other = state_folder().path
    assert blog.parent == other.parent == tmp_path
    assert blog != other


def test_state_folder__systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, the STATE_DIRECTORY of systemd is used."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert state_folder().path.parent == tmp_path


@pytest.mark.parametrize(
    "value",
    [
        "",
        None,
        0,
    ],
)
def test_state_folder__empty_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """An empty setting selects the default directory or is rejected."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with override_settings(SMOKETEST_STATE_DIR=value):
        try:
            path = state_folder().path
        except InvalidSettingError:
            return
    assert path.parent == tmp_path
    assert path.name.startswith(f"django-smoketest-{os.getuid()}-")


@sets_databases
@pytest.mark.parametrize("key", ["ENGINE", "HOST", "PORT", "NAME"])
def test_site_identity__other_database(key: str, settings: Any) -> None:
    """The identity depends on the databases."""
    settings.DATABASES = {"default": DATABASE}
    before = site_identity()
    settings.DATABASES = {"default": {**DATABASE, key: "other"}}
    assert site_identity() != before


@sets_databases
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SETTINGS_MODULE", "site.staging"),
        ("ROOT_URLCONF", "site.staging.urls"),
        ("DATABASES", {"default": DATABASE, "other": DATABASE}),
        ("DATABASES", {}),
    ],
)
def test_site_identity__other_site(name: str, value: object, settings: Any) -> None:
    """The identity depends on the settings module, the URLconf and the database aliases."""
    settings.DATABASES = {"default": DATABASE}
    before = site_identity()
    setattr(settings, name, value)
    assert site_identity() != before


@sets_databases
def test_site_identity__without_secrets(settings: Any) -> None:
    """The identity contains no secrets and does not change with a password."""
    settings.DATABASES = {"default": DATABASE}
    before = site_identity()
    assert "correct horse" not in str(before)
    assert "battery staple" not in str(before)
    settings.DATABASES = {"default": {**DATABASE, "PASSWORD": "new", "OPTIONS": {}}}
    assert site_identity() == before


@pytest.mark.parametrize("identity", [site_identity, shared_site_identity])
@sets_databases
def test_site_identity__used_database(identity: Callable[[], list[str]], settings: Any) -> None:
    """Django adds missing keys to a database when it is first used."""
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}}
    before = identity()
    settings.DATABASES = {"default": {**settings.DATABASES["default"], "HOST": "", "PORT": ""}}
    assert identity() == before


@sets_databases
def test_site_identity__order_of_databases(settings: Any) -> None:
    other = {**DATABASE, "NAME": "other"}
    settings.DATABASES = {"default": DATABASE, "other": other}
    before = site_identity()
    settings.DATABASES = {"other": other, "default": DATABASE}
    assert site_identity() == before


def test_run_options__from_settings(settings: Any) -> None:
    settings.SMOKETEST_SKIP_APPS = ["polls"]
    settings.SMOKETEST_TIMEOUT = 1
    settings.SMOKETEST_SLOW_AFTER = 2
    settings.SMOKETEST_RUN_TIMEOUT = 3
    settings.SMOKETEST_LOCK_TIMEOUT = 4
    settings.SMOKETEST_WORKERS = 5
    settings.SMOKETEST_RELEASE = "1.2.3"
    assert run_options() == RunOptions(
        skip_apps=["polls"],
        timeout=1,
        slow_after=2,
        run_timeout=3,
        lock_timeout=4,
        workers=5,
        release="1.2.3",
        load_site=load_site,
    )


def test_coordinator__from_settings(tmp_path: Path, settings: Any) -> None:
    """The coordinator has the shared state, the settings and the time the code was loaded."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    settings.SMOKETEST_MAX_AGE = 7
    current = coordinator()
    shared = state()
    assert current.store is shared.store
    assert current.abandoned is shared.abandoned
    assert current.run_lock is shared.run_lock
    assert current.waiting_locks is shared.waiting_locks
    assert current.options == run_options()
    assert current.max_age == 7
    config: Any = django_apps.get_app_config("smoketest")
    loaded_at = time() - (monotonic() - config.code_loaded_at)
    assert current.code_loaded_at == pytest.approx(loaded_at, abs=10)
    assert current.code_loaded_at < time()


def test_coordinator__clock_set_back_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of the process is not in the future after NTP has set the clock back."""
    monkeypatch.setattr("smoketest.services.time", lambda: time() - 86_400)
    assert coordinator().code_loaded_at < time() - 86_400


def test_coordinator__invalid_setting(settings: Any) -> None:
    settings.SMOKETEST_WORKERS = "many"
    with pytest.raises(InvalidSettingError, match="SMOKETEST_WORKERS is 'many'"):
        coordinator()


def test_coordinator__missing_app() -> None:
    """If only the URLs are installed, the error message names the missing app."""
    with (
        override_settings(INSTALLED_APPS=["tests.ledger"]),
        pytest.raises(ImproperlyConfigured, match='"smoketest" is not in INSTALLED_APPS'),
    ):
        coordinator()


_URLS = """
import threading
from django.db import connection
from smoketest.isolation import is_isolated

loaded_by = threading.current_thread().name
was_isolated = is_isolated()
connection.ensure_connection()
urlpatterns = []
"""
_MIDDLEWARE = """
def middleware(get_response):
    raise AssertionError("only imported")
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", ["", "raise RuntimeError"])
def test_site_is_loaded_before_the_first_test(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """The time is not charged to a test, and modules of the site are not isolated."""
    (tmp_path / "slow_urls.py").write_text(f"{_URLS}{error}")
    (tmp_path / "slow_middleware.py").write_text(_MIDDLEWARE)
    (tmp_path / "slow_tags.py").write_text(
        "from django.template import Library\nregister = Library()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("slow_urls", "slow_middleware", "slow_tags"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    settings.ROOT_URLCONF = "slow_urls"
    settings.MIDDLEWARE = ["no.such.middleware", "slow_middleware.middleware"]
    backend = "django.template.backends.django.DjangoTemplates"
    settings.TEMPLATES = [{"BACKEND": backend, "OPTIONS": {"builtins": ["slow_tags"]}}]
    suite = find(Selection(), run_options())
    assert suite.collection_errors == ()
    assert {"slow_middleware", "slow_tags"} <= sys.modules.keys()
    if not error:
        urls: Any = sys.modules["slow_urls"]
        assert urls.loaded_by == "smoketest-discovery"
        assert not urls.was_isolated
