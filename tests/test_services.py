"""What the settings make: shared state, or that of the process, and the coordinator."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from time import time
from typing import Any

import pytest
from django.apps import apps as django_apps
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from smoketest.conf import InvalidSettingError
from smoketest.runner.options import RunOptions
from smoketest.services import coordinator, run_options, site_identity, state, state_folder
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

#: Nothing is connected to here: the settings are only read.
sets_databases = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES:UserWarning")


def use_a_file(tmp_path: Path, settings: Any) -> str:
    """Set a state folder that cannot be used."""
    path = tmp_path / "file"
    path.touch()
    settings.SMOKETEST_STATE_DIR = str(path)
    return str(path)


def test_state__shared(tmp_path: Path, settings: Any) -> None:
    """Where there is a folder, results, locks and abandoned tests are those of the host."""
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


def test_state__of_another_folder(tmp_path: Path, settings: Any) -> None:
    """A setting that changes takes effect at once."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path / "one")
    one = state()
    settings.SMOKETEST_STATE_DIR = str(tmp_path / "two")
    assert state().store.location == str(tmp_path / "two" / FILE_NAME)
    assert one.store.location == str(tmp_path / "one" / FILE_NAME)


@pytest.mark.parametrize("is_shared", [True, False])
def test_state__locks(tmp_path: Path, settings: Any, is_shared: bool) -> None:
    """One may run and two may wait; these locks are all different."""
    if is_shared:
        settings.SMOKETEST_STATE_DIR = str(tmp_path)
    else:
        use_a_file(tmp_path, settings)
    current = state()
    assert len(current.waiting_locks) == 2
    locks = [current.run_lock, *current.waiting_locks]
    releases = [lock.acquire() for lock in locks]
    assert None not in releases
    assert [lock.acquire() for lock in locks] == [None] * 3
    for release in releases:
        assert release is not None
        release()


def test_state__of_this_process(
    tmp_path: Path, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a folder the process keeps its own state, is not up, and says so once."""
    path = use_a_file(tmp_path, settings)
    with caplog.at_level(logging.ERROR, "smoketest"):
        own = state()
        assert state() is own
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


def test_state__folder_is_repaired(tmp_path: Path, settings: Any) -> None:
    """As soon as the folder can be used, the state is shared again, without a restart."""
    path = Path(use_a_file(tmp_path, settings))
    assert not state().store.is_shared
    path.unlink()
    assert state().store.is_shared
    assert path.is_dir()


def test_state_folder__set_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is set, the folder that systemd gives is used."""
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
def test_state_folder__not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """A setting that is empty, in whatever way, is refused or leaves the choice to us."""
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
def test_site_identity__of_another_database(key: str, settings: Any) -> None:
    """Sites with different databases are different sites."""
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
def test_site_identity__of_another_site(name: str, value: object, settings: Any) -> None:
    """So are those with different settings modules, URLs or aliases."""
    settings.DATABASES = {"default": DATABASE}
    before = site_identity()
    setattr(settings, name, value)
    assert site_identity() != before


@sets_databases
def test_site_identity__without_secrets(settings: Any) -> None:
    """Changing a password does not change the site, and no secret is part of its identity."""
    settings.DATABASES = {"default": DATABASE}
    before = site_identity()
    assert "correct horse" not in str(before)
    assert "battery staple" not in str(before)
    settings.DATABASES = {"default": {**DATABASE, "PASSWORD": "new", "OPTIONS": {}}}
    assert site_identity() == before


@sets_databases
def test_site_identity__order_of_databases(settings: Any) -> None:
    """The order in which the databases are listed does not matter."""
    other = {**DATABASE, "NAME": "other"}
    settings.DATABASES = {"default": DATABASE, "other": other}
    before = site_identity()
    settings.DATABASES = {"other": other, "default": DATABASE}
    assert site_identity() == before


def test_run_options__of_the_settings(settings: Any) -> None:
    """What the runner is told are the settings of the site."""
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
    )


def test_coordinator__of_the_settings(tmp_path: Path, settings: Any) -> None:
    """The coordinator has the shared state, the settings, and when the code was loaded."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    settings.SMOKETEST_MAX_AGE = 7
    made = coordinator()
    shared = state()
    assert made.store is shared.store
    assert made.abandoned is shared.abandoned
    assert made.run_lock is shared.run_lock
    assert made.waiting_locks is shared.waiting_locks
    assert made.options == run_options()
    assert made.max_age == 7
    config: Any = django_apps.get_app_config("smoketest")
    assert made.code_loaded_at == config.code_loaded_at
    assert 0.0 < made.code_loaded_at < time()


def test_coordinator__invalid_setting(settings: Any) -> None:
    """A wrong setting is raised, not guessed."""
    settings.SMOKETEST_WORKERS = "many"
    with pytest.raises(InvalidSettingError, match="SMOKETEST_WORKERS is 'many'"):
        coordinator()


def test_coordinator__app_is_missing() -> None:
    """Who adds the URLs alone is told what else to add."""
    with (
        override_settings(INSTALLED_APPS=["tests.ledger"]),
        pytest.raises(ImproperlyConfigured, match='"smoketest" is not in INSTALLED_APPS'),
    ):
        coordinator()
