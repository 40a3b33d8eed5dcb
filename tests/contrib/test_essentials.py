"""Tests of smoketest.contrib.essentials on a new site, and of all faults that need no server."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.base import BaseCache
from django.core.checks import CheckMessage, run_checks
from django.core.checks.registry import registry
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.files.storage import storages as staticfiles_storages
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from smoketest.contrib.essentials import (
    caches,
    databases,
    disks,
    memory,
    static_files,
    storages,
    targets,
)
from smoketest.contrib.essentials.conf import PARTS, EssentialsConf
from tests.contrib.conftest import APPS, Essentials
from tests.contrib.essentials_site import Site, only
from tests.ledger.models import Account
from tests.servers.mounts import hanging_mount, small_file_system, stale_mount
from tests.servers.services import missing


def early_storage() -> Any:
    """The storage that a process created at startup."""
    return _early[0]


_early: list[Any] = []


class CorruptingStorage(FileSystemStorage):
    def _open(self, name: str, mode: str = "rb") -> Any:
        return ContentFile(b"")


class RenamingCorruptingStorage(CorruptingStorage):
    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return f"{name}.kept"


class UndeletingStorage(FileSystemStorage):
    def delete(self, name: str) -> None:
        """Do not delete the file."""


class DeniedError(Exception):
    """An error of Google Cloud, such as google.api_core.exceptions.Forbidden."""

    code = 403


class KeepingStorage(FileSystemStorage):
    """A storage in which the site may not delete, and whose files are not overwritten."""

    def delete(self, name: str) -> None:
        raise DeniedError


class LaggingCache(BaseCache):
    """A cache that writes to one server and reads from another with a replication lag."""

    def __init__(self, lag: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._lag = float(lag)
        self._changes: list[tuple[float, str, Any]] = []

    def set(self, key: str, value: Any, *_: Any, **__: Any) -> None:
        self._changes.append((time.monotonic(), key, value))

    def delete(self, key: str, version: int | None = None) -> bool:
        self._changes.append((time.monotonic(), key, None))
        return True

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        known = time.monotonic() - self._lag
        values = [value for at, name, value in self._changes if name == key and at < known]
        return values[-1] if values else default


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    """A mount point outside the directories of the tests."""
    folder = tmp_path / "mount"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("fresh") / "site")
    site.manage("migrate", "-v0")
    return site


class TestFreshSite:
    """A site of ``django-admin startproject``, migrated, with DEBUG off."""

    def test_passes(self, fresh: Site) -> None:
        """All critical tests pass; deployment checks of Django only cause warnings."""
        run = fresh.run()
        problems = {name for name, outcome in run.outcomes.items() if outcome != "passed"}
        assert problems == {
            "host.StateDiskTest.test_has_room",
            "host.TemporaryDiskTest.test_has_room",
            "mail.DefaultMailTest.test_server_lets_the_site_in",
            "pages.StaticFilesTest.test_are_all_there",
            "storages.DefaultStorageTest.test_writes_reads_and_deletes",
            "system_checks.SystemChecksTest.test_are_ready_for_production",
        }
        not_skipped = {name for name in problems if run.outcomes[name] != "skipped"}
        assert not_skipped == {"system_checks.SystemChecksTest.test_are_ready_for_production"}
        assert all(run.messages[name] for name in problems)
        assert run.status == "PASS"
        assert len(run.outcomes) == 18
        assert run.seconds < 20

    def test_no_remaining_data(self, fresh: Site) -> None:
        """The tests leave no rows, no gaps in sequences and no files."""
        before = _database(fresh), _files(fresh)
        fresh.run()
        assert (_database(fresh), _files(fresh)) == before

    def test_system_checks(self, fresh: Site) -> None:
        """The app adds no messages to manage.py check, except the mode of the site."""
        fresh.configure("SILENCED_SYSTEM_CHECKS = ['smoketest.I002']")
        try:
            assert "no issues" in fresh.manage("check")
        finally:
            fresh.configure("")

    def test_skip_setting(self, fresh: Site) -> None:
        """Parts and single targets can be excluded."""
        everything = set(fresh.run().outcomes)
        try:
            fresh.configure("SMOKETEST_ESSENTIALS_SKIP = ['databases', 'caches.default', 'disks']")
            left = set(fresh.run().outcomes)
        finally:
            fresh.configure("")
        removed = {name.rpartition(".")[0] for name in everything - left}
        assert removed == {
            "caches.DefaultCacheTest", "databases.DefaultDatabaseTest",
            "host.DefaultDatabaseDiskTest", "host.StateDiskTest", "host.TemporaryDiskTest",
        }  # fmt: skip
        assert left < everything


def _database(site: Site) -> dict[str, list[Any]]:
    with sqlite3.connect(site.folder / "db.sqlite3") as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        found = {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            for (table,) in tables.fetchall()
        }
    connection.close()
    assert "django_session" in found
    return found


def _files(site: Site) -> set[Path]:
    return {path.relative_to(site.folder) for path in site.folder.rglob("*")}


class TestSQLite:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        return Site(tmp_path / "site")

    def test_never_migrated(self, site: Site) -> None:
        """All migrations are unapplied, and the test creates no table."""
        run = site.run("databases")
        assert run.outcomes == {
            "databases.DefaultDatabaseTest.test_answers": "passed",
            "databases.DefaultDatabaseTest.test_takes_a_write": "skipped",
            "databases.DefaultMigrationsTest.test_are_all_applied": "failed",
        }
        message = run.messages["databases.DefaultMigrationsTest.test_are_all_applied"]
        assert message.startswith("The database 'default' has unapplied migrations (")
        assert "Run: manage.py migrate --database default" in message
        with sqlite3.connect(site.folder / "db.sqlite3") as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        connection.close()

    def test_unapplied_migration(self, site: Site) -> None:
        """The message names an unapplied migration, and one applied before its dependency."""
        test = "databases.DefaultMigrationsTest"
        site.manage("migrate", "-v0")
        assert only(site.run(test))[0] == "passed"
        site.manage("migrate", "--fake", "sessions", "zero", "-v0")
        outcome, message = only(site.run(test))
        assert outcome == "failed"
        assert "sessions.0001_initial." in message
        with sqlite3.connect(site.folder / "db.sqlite3") as connection:
            connection.execute(
                "DELETE FROM django_migrations WHERE app = 'auth' AND name = '0001_initial'"
            )
        connection.close()
        outcome, message = only(site.run(test))
        assert outcome == "failed"
        assert "is applied before its dependency auth.0001_initial" in message

    def test_two_leaf_migrations(self, site: Site) -> None:
        """Two leaf migrations of an app fail the test, since migrate refuses them."""
        migrations = site.folder / "polls" / "migrations"
        migrations.mkdir(parents=True)
        for name, parent in (("0001", ""), ("0002_a", "0001"), ("0002_b", "0001")):
            dependencies = [("polls", parent)] if parent else []
            (migrations / f"{name}.py").write_text(
                "from django.db import migrations\n"
                f"class Migration(migrations.Migration):\n    dependencies = {dependencies}\n"
            )
        for folder in (migrations, migrations.parent):
            (folder / "__init__.py").touch()
        site.configure("INSTALLED_APPS.append('polls')")
        outcome, message = only(site.run("databases.DefaultMigrationsTest"))
        assert outcome == "failed"
        assert message.startswith("Apps have more than one leaf migration: polls. Release the")

    def test_cannot_be_opened(self, site: Site) -> None:
        """The directory of the database does not exist."""
        site.configure("DATABASES['default']['NAME'] = '/dev/null/nowhere/db.sqlite3'")
        run = site.run("databases.DefaultDatabaseTest")
        assert set(run.outcomes.values()) == {"failed"}
        message = run.messages["databases.DefaultDatabaseTest.test_answers"]
        assert "does not answer: OperationalError: unable to open database file." in message
        assert "manage.py dbshell --database default" in message

    def test_read_only(self, site: Site) -> None:
        """The write test fails, unless the database is set as read-only."""
        site.manage("migrate", "-v0")
        read_only = (
            "DATABASES['default'] |= {"
            "'NAME': f\"file:{BASE_DIR / 'db.sqlite3'}?mode=ro\", 'OPTIONS': {'uri': True}}\n"
        )
        site.configure(read_only)
        run = site.run("databases.DefaultDatabaseTest")
        assert run.outcomes["databases.DefaultDatabaseTest.test_answers"] == "passed"
        assert run.outcomes["databases.DefaultDatabaseTest.test_takes_a_write"] == "failed"
        message = run.messages["databases.DefaultDatabaseTest.test_takes_a_write"]
        assert "does not accept a new row in django_session" in message
        assert "SMOKETEST_ESSENTIALS_READ_ONLY_DATABASES" in message

        site.configure(f"{read_only}SMOKETEST_ESSENTIALS_READ_ONLY_DATABASES = ['default']")
        assert site.run("databases").outcomes == {
            "databases.DefaultDatabaseTest.test_answers": "passed",
            "databases.DefaultDatabaseTest.test_takes_a_write": "skipped",
        }

    @pytest.mark.django_db(transaction=True)
    def test_locked_by_another_writer(
        self, essentials: Essentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The write is retried while another connection holds the write lock."""
        monkeypatch.setattr(databases, "BUSY", 50.0)
        monkeypatch.setattr(databases.DatabaseTestCase, "timeout", 60)
        writer = sqlite3.connect(
            connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False
        )
        writer.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(1.2, writer.rollback)
        timer.start()
        test = "databases.DefaultDatabaseTest.test_takes_a_write"
        assert only(essentials(test)) == ("passed", "")
        timer.join()
        writer.close()

    @pytest.mark.django_db(transaction=True, databases="__all__")
    def test_router_that_reads_from_a_replica(self, essentials: Essentials) -> None:
        """The row is read where it was written."""

        class ReadsElsewhere:
            def db_for_read(self, model: object, **hints: object) -> str:
                return "other"

        run = essentials("databases.DefaultDatabaseTest", DATABASE_ROUTERS=[ReadsElsewhere()])
        assert run.outcomes == {
            "databases.DefaultDatabaseTest.test_answers": "passed",
            "databases.DefaultDatabaseTest.test_takes_a_write": "passed",
        }

    def test_several_databases(self, site: Site) -> None:
        """Replicas are not written to, and databases without migrations are skipped."""
        site.configure(
            "DATABASES['replica'] = {**DATABASES['default'], 'TEST': {'MIRROR': 'default'}}\n"
            "DATABASES['old-shop'] = {**DATABASES['default'], 'NAME': BASE_DIR / 'old.sqlite3'}\n"
        )
        site.manage("migrate", "-v0")
        assert site.run("databases").outcomes == {
            "databases.DefaultDatabaseTest.test_answers": "passed",
            "databases.DefaultDatabaseTest.test_takes_a_write": "passed",
            "databases.DefaultMigrationsTest.test_are_all_applied": "passed",
            "databases.ReplicaDatabaseTest.test_answers": "passed",
            "databases.ReplicaDatabaseTest.test_takes_a_write": "skipped",
            "databases.OldShopDatabaseTest.test_answers": "passed",
            "databases.OldShopDatabaseTest.test_takes_a_write": "skipped",
            "databases.OldShopMigrationsTest.test_are_all_applied": "skipped",
        }

    def test_database_of_one_app(self, site: Site) -> None:
        """Migrations may be unapplied where database routers allow no model of the app."""
        (site.folder / "routers.py").write_text(
            "class Router:\n"
            "    def allow_migrate(self, db, app_label, **hints):\n"
            "        return (db == 'sessions') == (app_label == 'sessions')\n"
        )
        site.configure(
            "DATABASES['sessions'] = {**DATABASES['default'], 'NAME': BASE_DIR / 's.sqlite3'}\n"
            "DATABASE_ROUTERS = ['routers.Router']"
        )
        site.manage("migrate", "-v0")
        site.manage("migrate", "sessions", "--database=sessions", "-v0")
        run = site.run("databases")
        assert set(run.outcomes.values()) == {"passed"}
        assert len(run.outcomes) == 6
        site.manage("migrate", "sessions", "zero", "--fake", "--database=sessions", "-v0")
        run = site.run("databases")
        failed = [name for name, outcome in run.outcomes.items() if outcome != "passed"]
        assert failed == ["databases.SessionsMigrationsTest.test_are_all_applied"]
        assert "has unapplied migrations (1): sessions.0001_initial." in run.messages[failed[0]]


class TestCaches:
    def test_backends(self, essentials: Essentials, tmp_path: Path) -> None:
        """Memory and file caches pass and keep no key; a dummy cache is skipped."""
        folder = tmp_path / "cache"
        backends = "django.core.cache.backends"
        run = essentials(
            "caches",
            CACHES={
                "default": {"BACKEND": f"{backends}.locmem.LocMemCache"},
                "files": {"BACKEND": f"{backends}.filebased.FileBasedCache", "LOCATION": folder},
                "no-such": {"BACKEND": f"{backends}.dummy.DummyCache"},
            },
        )
        assert run.outcomes == {
            "caches.DefaultCacheTest.test_sets_gets_and_deletes": "passed",
            "caches.FilesCacheTest.test_sets_gets_and_deletes": "passed",
            "caches.NoSuchCacheTest.test_sets_gets_and_deletes": "skipped",
        }
        assert list(folder.iterdir()) == []

    def test_missing_folder(self, essentials: Essentials) -> None:
        location = {"LOCATION": "/dev/null/nowhere"}
        backend = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}
        outcome, message = only(essentials("caches", CACHES={"default": {**backend, **location}}))
        assert outcome == "failed"
        assert message.startswith("The cache 'default' does not work: NotADirectoryError: ")
        assert "A part of the path is not a directory." in message

    def test_invalid_backend(self, essentials: Essentials) -> None:
        outcome, message = only(essentials("caches", CACHES={"default": {"BACKEND": "no.Such"}}))
        assert outcome == "failed"
        assert "Could not find backend 'no.Such'" in message

    @pytest.mark.parametrize(
        ("lag", "max_lag", "expected"), [("0.2", 30.0, "passed"), ("900", 0.2, "failed")]
    )
    def test_replication_lag(
        self,
        essentials: Essentials,
        monkeypatch: pytest.MonkeyPatch,
        lag: str,
        max_lag: float,
        expected: str,
    ) -> None:
        """A replication lag up to the limit is accepted."""
        monkeypatch.setattr(caches, "LAG", max_lag)
        monkeypatch.setattr(caches.CacheTest, "timeout", 90)
        backend = {"BACKEND": f"{__name__}.LaggingCache", "LOCATION": lag}
        assert only(essentials("caches", CACHES={"default": backend}))[0] == expected

    def test_database_cache(self, tmp_path: Path) -> None:
        """A missing table fails the test; an existing one keeps no row."""
        site = Site(
            tmp_path / "site",
            "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.db.DatabaseCache',"
            " 'LOCATION': 'kept'}}",
        )
        outcome, message = only(site.run("caches"))
        assert outcome == "failed"
        assert "kept" in message
        site.manage("createcachetable")
        assert only(site.run("caches"))[0] == "passed"
        with sqlite3.connect(site.folder / "db.sqlite3") as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        connection.close()


STORAGE = "storages.DefaultStorageTest"
FILES = {"BACKEND": "django.core.files.storage.FileSystemStorage"}


class TestStorages:
    def test_working_storages(self, essentials: Essentials, tmp_path: Path) -> None:
        """The media directory may be missing; it is removed again after the test."""
        media, docs = tmp_path / "media", tmp_path / "docs"
        docs.mkdir()
        run = essentials(
            "storages",
            MEDIA_ROOT=media,
            SMOKETEST_ESSENTIALS_STORAGE_FOLDER="for/smoke tests",
            STORAGES={
                "default": FILES,
                "docs": {**FILES, "OPTIONS": {"location": docs}},
                "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
                "staticfiles": {**FILES, "OPTIONS": {"location": "/dev/null/nowhere"}},
            },
        )
        assert run.outcomes == {
            "storages.DefaultStorageTest.test_writes_reads_and_deletes": "passed",
            "storages.DocsStorageTest.test_writes_reads_and_deletes": "passed",
            "storages.MemoryStorageTest.test_writes_reads_and_deletes": "passed",
        }
        assert not media.exists()
        assert list(docs.iterdir()) == []

    def test_full(self, essentials: Essentials, mount_point: Path) -> None:
        """Without free space or inodes, the test fails and leaves no file."""
        with small_file_system(mount_point, size="16k") as media:
            (media / "big").write_bytes(bytes(16384))
            outcome, message = only(essentials("storages", MEDIA_ROOT=media))
            left = [path.name for path in media.iterdir()]
        assert outcome == "failed"
        assert "OSError: [Errno 28] No space left on device" in message
        assert "It is full: free space (df -h) or inodes (df -i)." in message
        assert left == ["big"]

        with small_file_system(mount_point, inodes=2) as media:
            (media / "small").touch()
            outcome, message = only(essentials("storages", MEDIA_ROOT=media))
        assert outcome == "failed"
        assert "It is full" in message

    def test_stale_mount(self, essentials: Essentials, mount_point: Path) -> None:
        """The server of the mount does not exist any more."""
        with stale_mount(mount_point) as media:
            outcome, message = only(essentials("storages", MEDIA_ROOT=media))
        assert outcome == "failed"
        assert "Transport endpoint is not connected" in message
        assert "The mount is stale" in message
        assert "remount it" in message

    def test_hanging_mount(
        self, essentials: Essentials, mount_point: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server of the mount does not respond, so the test times out."""
        monkeypatch.setattr(storages.StorageTest, "timeout", 0.5)
        with hanging_mount(mount_point) as media:
            outcome, _ = only(essentials("storages", MEDIA_ROOT=media))
        assert outcome == "timed_out"

    def test_write_forbidden(self, essentials: Essentials) -> None:
        """The file system does not allow writes, not even by root."""
        outcome, message = only(essentials("storages", MEDIA_ROOT="/proc/1"))
        assert outcome == "failed"
        assert message.startswith("The storage 'default' does not work: ")

    @pytest.mark.parametrize("storage", ["CorruptingStorage", "RenamingCorruptingStorage"])
    def test_corrupted_content(self, essentials: Essentials, tmp_path: Path, storage: str) -> None:
        """The test fails and deletes the file, even if the storage changed its name."""
        backend = {"BACKEND": f"{__name__}.{storage}"}
        outcome, message = only(
            essentials("storages", MEDIA_ROOT=tmp_path / "media", STORAGES={"default": backend})
        )
        assert outcome == "failed"
        assert "did not return the content that was written" in message
        assert not (tmp_path / "media").exists()

    def test_not_deleted(self, essentials: Essentials, tmp_path: Path) -> None:
        backend = {"BACKEND": f"{__name__}.UndeletingStorage"}
        outcome, message = only(
            essentials("storages", MEDIA_ROOT=tmp_path / "media", STORAGES={"default": backend})
        )
        assert outcome == "failed"
        assert "did not delete smoketest-" in message

    def test_deletion_forbidden(self, essentials: Essentials, tmp_path: Path) -> None:
        """Later runs only read the file of the first run."""
        backend = {"BACKEND": f"{__name__}.KeepingStorage"}
        settings = {"MEDIA_ROOT": tmp_path / "media", "STORAGES": {"default": backend}}
        outcome, message = only(essentials("storages", **settings))
        assert (outcome, "which stores and returns a file." in message) == ("skipped", True)
        outcome, message = only(essentials("storages", **settings))
        assert (outcome, "which returns a file." in message) == ("skipped", True)
        assert [path.name for path in (tmp_path / "media").iterdir()] == ["smoketest.txt"]


class _TimeoutOfMedia:
    """A timeout of 0.5 s for the file system of MEDIA_ROOT, and of 60 s for the others."""

    def __get__(self, instance: object, owner: type) -> float:
        return 0.5 if owner.__name__.startswith("Media") else 60.0


class TestDisks:
    def test_without_inodes(self, essentials: Essentials, mount_point: Path) -> None:
        """A file system with free space, but without free inodes."""
        with small_file_system(mount_point, inodes=16) as media:
            before = essentials("host.MediaDiskTest", MEDIA_ROOT=media / "not" / "yet")
            for number in range(15):
                (media / f"small-{number}").touch()
            outcome, message = only(essentials("host.MediaDiskTest", MEDIA_ROOT=media))
        assert only(before)[0] == "passed"
        assert outcome == "failed"
        assert message.startswith("Only 0.0% (0 inodes) of the file system of")
        assert message.endswith(f"df -hi {media}")

    def test_less_than_required(self, essentials: Essentials, mount_point: Path) -> None:
        with small_file_system(mount_point) as media:
            (media / "big").write_bytes(bytes(15 * 4096))
            required = {"MEDIA_ROOT": media, "SMOKETEST_ESSENTIALS_MIN_FREE_DISK": 0.1}
            outcome, message = only(essentials("host.MediaDiskTest", **required))
            enough = {"SMOKETEST_ESSENTIALS_ENOUGH_FREE_DISK": 4096}
            outcome_of_enough, _ = only(essentials("host.MediaDiskTest", **required, **enough))
        assert outcome_of_enough == "passed"
        assert outcome == "failed"
        assert message.startswith(f"Only 6.2% (4.0 KiB) of the file system of {media} is left;")
        assert "SMOKETEST_ESSENTIALS_MIN_FREE_DISK is 0.1." in message

    def test_each_file_system_tested_once(
        self, essentials: Essentials, mount_point: Path, tmp_path: Path
    ) -> None:
        """Directories on a tested file system are skipped; symbolic links are resolved."""
        (tmp_path / "link").symlink_to("mount")
        with small_file_system(mount_point) as media:
            run = essentials(
                "host.MediaDiskTest", "host.StaticDiskTest", "host.UploadsDiskTest",
                MEDIA_ROOT=tmp_path / "link" / "a", STATIC_ROOT=tmp_path,
                FILE_UPLOAD_TEMP_DIR=media / "b",
            )  # fmt: skip
        assert list(run.outcomes.values()) == ["passed", "passed", "skipped"]
        assert run.messages["host.UploadsDiskTest.test_has_room"] == (
            "It is on the same file system as 'media', which is tested."
        )

    def test_read_only_mount(self, essentials: Essentials, mount_point: Path) -> None:
        """A file system that is full by nature, such as an image, needs no free space."""
        with small_file_system(mount_point) as media:
            (media / "file").write_bytes(bytes(64 * 1024))
            subprocess.run(["mount", "-o", "remount,ro", str(media)], check=True)
            outcome, message = only(essentials("host.MediaDiskTest", MEDIA_ROOT=media))
        assert outcome == "skipped"
        assert message == f"The file system of {media} is mounted read-only."

    def test_read_only_mount_of_a_tested_device(
        self, essentials: Essentials, mount_point: Path, tmp_path: Path
    ) -> None:
        """A read-only mount is skipped, but not taken for a test of the writable one."""
        (tmp_path / "again").mkdir()
        with small_file_system(mount_point) as media:
            again = str(tmp_path / "again")
            subprocess.run(["mount", "--bind", str(media), again], check=True)
            try:
                subprocess.run(["mount", "-o", "remount,bind,ro", again], check=True)
                run = essentials(
                    "host.MediaDiskTest", "host.StaticDiskTest", "host.UploadsDiskTest",
                    MEDIA_ROOT=again, STATIC_ROOT=media, FILE_UPLOAD_TEMP_DIR=media / "uploads",
                )  # fmt: skip
            finally:
                subprocess.run(["umount", again], check=True)
        assert list(run.outcomes.values()) == ["skipped", "passed", "skipped"]
        assert "mounted read-only" in run.messages["host.MediaDiskTest.test_has_room"]
        assert "as 'static'" in run.messages["host.UploadsDiskTest.test_has_room"]

    def test_stale_mount(self, essentials: Essentials, mount_point: Path) -> None:
        with stale_mount(mount_point) as media:
            outcome, message = only(essentials("host.MediaDiskTest", MEDIA_ROOT=media))
        assert outcome == "failed"
        assert "The mount is stale" in message

    def test_hanging_mount(
        self, essentials: Essentials, mount_point: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The test times out, and the other file systems are tested."""
        monkeypatch.setattr(disks.DiskTest, "timeout", _TimeoutOfMedia())
        with hanging_mount(mount_point) as media:
            run = essentials(
                "host.MediaDiskTest",
                "host.TemporaryDiskTest",
                MEDIA_ROOT=media,
                SMOKETEST_ESSENTIALS_SKIP=["disks.default-database", "disks.other-database"],
            )
        assert run.outcomes == {
            "host.MediaDiskTest.test_has_room": "timed_out",
            "host.TemporaryDiskTest.test_has_room": "passed",
        }


class TestMemory:
    def test_this_host(self, essentials: Essentials) -> None:
        """The test passes with the default, and fails if all memory must be available."""
        found = list(memory.memories())
        if not found:
            missing("this system has no /proc/meminfo")
        assert all(0 < entry.available < entry.total for entry in found)
        assert only(essentials("host.MemoryTest"))[0] == "passed"
        outcome, message = only(
            essentials(
                "host.MemoryTest",
                SMOKETEST_ESSENTIALS_MIN_FREE_MEMORY=1,
                SMOKETEST_ESSENTIALS_ENOUGH_FREE_MEMORY=2**60,
            )
        )
        assert outcome == "failed"
        assert message.startswith("Only ")
        assert "SMOKETEST_ESSENTIALS_MIN_FREE_MEMORY is 1." in message

    #: Files of the kernel (cgroups(7)); 100 MB are in use, of which 60 MB are reclaimable.
    FILES = {
        "v2, with a limit above": (
            "0::/system.slice/site.service\n",
            {
                "system.slice/site.service/memory.max": "max\n",
                "system.slice/site.service/memory.current": "50000000\n",
                "system.slice/memory.max": "200000000\n",
                "system.slice/memory.current": "100000000\n",
                "system.slice/memory.stat": "anon 40000000\ninactive_file 60000000\n",
            },
        ),
        "v2, in a container": (
            "0::/\n",
            {
                "memory.max": "200000000\n",
                "memory.current": "100000000\n",
                "memory.stat": "anon 40000000\ninactive_file 60000000\n",
            },
        ),
        "v1, by the path of the host": (
            "5:cpu,cpuacct:/\n4:memory:/docker/0123\n0::/\n",
            {
                "memory/memory.limit_in_bytes": "200000000\n",
                "memory/memory.usage_in_bytes": "100000000\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 60000000\n",
            },
        ),
    }

    @pytest.mark.parametrize("case", FILES)
    def test_container_limits(
        self, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reclaimable memory counts as available."""
        groups, files = self.FILES[case]
        (tmp_path / "self").mkdir()
        (tmp_path / "self/cgroup").write_text(groups)
        for name, content in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        monkeypatch.setattr(memory, "PROC", tmp_path)
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
        (group,) = memory.memories()
        assert (group.total, group.available) == (200_000_000, 160_000_000)

    @pytest.mark.parametrize(
        ("host", "used", "scarce"),
        [
            (900, 100, []),
            (20, 100, ["the host"]),
            (900, 195, ["the control group"]),
            (20, 195, ["the host", "the control group"]),
        ],
    )
    def test_host_and_container(
        self,
        essentials: Essentials,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        host: int,
        used: int,
        scarce: list[str],
    ) -> None:
        """The host and the container are judged separately. Numbers are in MB, of 1000 and 200."""
        (tmp_path / "self").mkdir()
        (tmp_path / "self/cgroup").write_text("0::/\n")
        (tmp_path / "meminfo").write_text(
            f"MemTotal: {1000 * 1000} kB\nMemAvailable: {host * 1000} kB\n"
        )
        (tmp_path / "groups").mkdir()
        (tmp_path / "groups/memory.max").write_text("200000000\n")
        (tmp_path / "groups/memory.current").write_text(f"{used * 10**6}\n")
        monkeypatch.setattr(memory, "PROC", tmp_path)
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
        outcome, message = only(
            essentials("host.MemoryTest", SMOKETEST_ESSENTIALS_ENOUGH_FREE_MEMORY=10**8 * 9)
        )
        assert outcome == ("failed" if scarce else "passed")
        found = [name for name in ("the host", "the control group") if name in message]
        assert found == scarce

    def test_unknown_memory(
        self, essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "PROC", tmp_path)
        assert only(essentials("host.MemoryTest"))[0] == "skipped"


class TestHostNames:
    def test_not_resolved(self, essentials: Essentials) -> None:
        """Names in .invalid do not resolve (RFC 2606); the message names the setting."""
        run = essentials(
            "host.NoSuchHostInvalidHostNameTest",
            SMOKETEST_ESSENTIALS_HOSTS=["no-such-host.invalid"],
        )
        outcome, message = only(run)
        assert outcome == "failed"
        assert message.startswith("no-such-host.invalid does not resolve: gaierror: ")
        assert "It is set in SMOKETEST_ESSENTIALS_HOSTS." in message

    def test_resolved(self, essentials: Essentials) -> None:
        """The name of this host resolves."""
        name = socket.gethostname()
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            missing(f"the name of this machine, {name}, does not resolve")
        run = essentials("host", SMOKETEST_ESSENTIALS_HOSTS=[name])
        (resolved,) = (test for test in run.outcomes if "HostNameTest" in test)
        assert run.outcomes[resolved] == "passed"

    def test_found_in_all_settings(self) -> None:
        """IP addresses, sockets, files and tables are ignored."""
        backends = "django.core.cache.backends"
        caches = {
            "default": {
                "BACKEND": f"{backends}.redis.RedisCache",
                "LOCATION": "redis://user:secret@redis.internal:6379/1",
            },
            "several": {
                "BACKEND": f"{backends}.redis.RedisCache",
                "LOCATION": ["rediss://a.internal", "redis://10.0.0.1:6379", "unix:///run/redis"],
            },
            "memcached": {
                "BACKEND": f"{backends}.memcached.PyMemcacheCache",
                "LOCATION": "m1.internal:11211;[::1]:11211;unix:/run/memcached;/run/m",
            },
            "files": {"BACKEND": f"{backends}.filebased.FileBasedCache", "LOCATION": Path("/a")},
            "table": {"BACKEND": f"{backends}.db.DatabaseCache", "LOCATION": "my_table"},
            "local": {
                "BACKEND": f"{backends}.redis.RedisCache",
                "LOCATION": "redis://localhost:6379",
            },
        }
        with override_settings(CACHES=caches, SMOKETEST_ESSENTIALS_HOSTS=["a.internal"]):
            found = targets.hosts()
        assert found == {
            "redis.internal": ["CACHES['default']"],
            "a.internal": ["CACHES['several']", "SMOKETEST_ESSENTIALS_HOSTS"],
            "m1.internal": ["CACHES['memcached']"],
        }

    def test_found_in_databases(self, tmp_path: Path) -> None:
        """Lists of PostgreSQL hosts are split; sockets are ignored."""
        site = Site(
            tmp_path / "site",
            "for alias, host in {'pg': 'pg1.internal,pg2.internal', 'run': '/run', 'ip': '::1'}"
            ".items():\n"
            "    DATABASES[alias] = {'ENGINE': 'django.db.backends.postgresql', 'HOST': host}\n",
        )
        printed = site.python(
            "-c",
            "import django; django.setup()\n"
            "from smoketest.contrib.essentials import targets; print(dict(targets.hosts()))",
        )
        databases = ["DATABASES['pg']"]
        assert printed.strip() == str({"pg1.internal": databases, "pg2.internal": databases})


class TestStaticFiles:
    MANIFEST = {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
        "default": FILES,
    }

    @pytest.fixture
    def collected(self, tmp_path: Path) -> Path:
        """A directory of collected files with a manifest."""
        source = tmp_path / "source"
        source.mkdir()
        for name in ("a.css", "b.css"):
            (source / name).write_text("p {}")
        root = tmp_path / "static"
        with override_settings(
            INSTALLED_APPS=["django.contrib.staticfiles"], STATICFILES_DIRS=[source],
            STATIC_ROOT=root, STATIC_URL="static/", STORAGES=self.MANIFEST,
        ):  # fmt: skip
            call_command("collectstatic", verbosity=0, interactive=False)
        return root

    def run(self, essentials: Essentials, root: Path, **settings: Any) -> tuple[str, str]:
        defaults = {"STATIC_ROOT": root, "STATIC_URL": "static/", "STORAGES": self.MANIFEST}
        return only(essentials("pages.StaticFilesTest", **{**defaults, **settings}))

    def test_all_present(self, essentials: Essentials, collected: Path) -> None:
        assert self.run(essentials, collected) == ("passed", "")

    def test_one_missing(self, essentials: Essentials, collected: Path) -> None:
        (removed,) = collected.glob("b.*.css")
        removed.unlink()
        outcome, message = self.run(essentials, collected)
        assert outcome == "failed"
        assert message.startswith(
            f"1 of 2 checked static files are missing: {removed.name}. Run: manage.py collectstatic"
        )

    def test_without_a_manifest(self, essentials: Essentials, collected: Path) -> None:
        (collected / "staticfiles.json").unlink()
        outcome, message = self.run(essentials, collected)
        assert outcome == "failed"
        assert message.startswith("There is no manifest staticfiles.json: ")
        assert "Run: manage.py collectstatic" in message

    def test_invalid_manifest(self, essentials: Essentials, collected: Path) -> None:
        (collected / "staticfiles.json").write_text("{")
        outcome, message = self.run(essentials, collected)
        assert outcome == "failed"
        assert "cannot be read: ValueError: Couldn't load manifest 'staticfiles.json'" in message

    def test_collected_after_startup(self, essentials: Essentials, collected: Path) -> None:
        """A process that was started before collectstatic fails the test."""
        manifest = collected / "staticfiles.json"
        text = manifest.read_text()
        manifest.unlink()
        with override_settings(STORAGES=self.MANIFEST, STATIC_ROOT=collected, STATIC_URL="s/"):
            early = staticfiles_storages["staticfiles"]
            assert not early.hashed_files
        manifest.write_text(text)
        _early[:] = [early]
        backend = {"BACKEND": f"{__name__}.early_storage"}
        outcome, message = self.run(essentials, collected, STORAGES={"staticfiles": backend})
        assert outcome == "failed"
        assert message.endswith("restart the site.")

    def test_time_budget(
        self, essentials: Essentials, collected: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A slow storage is checked for some of the files, in random order."""
        monkeypatch.setattr(static_files, "BUDGET", 0.0)
        for hashed in collected.glob("*.*.css"):
            hashed.unlink()
        seen = set()
        for _ in range(40):
            outcome, message = self.run(essentials, collected)
            assert outcome == "failed"
            assert message.startswith("1 of 1 checked static files are missing: ")
            seen.add(message)
            if len(seen) == 2:
                return
        raise AssertionError(seen)

    @pytest.mark.parametrize(
        "settings",
        [
            {"DEBUG": True},
            {"INSTALLED_APPS": [app for app in APPS if "static" not in app]},
            {"STORAGES": {"default": FILES}},
            {"STORAGES": {"staticfiles": FILES}},
        ],
    )
    def test_manifest_not_needed(
        self, essentials: Essentials, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        outcome, reason = self.run(essentials, tmp_path, **settings)
        assert outcome == "skipped"
        assert reason


class TestSystemChecks:
    def test_error(self, essentials: Essentials) -> None:
        """The checks of all apps are run, and silenced messages are ignored."""
        wrong = {"SMOKETEST_ESSENTIALS_CLOCK_TOLERANCE": -1}
        run = essentials("system_checks", **wrong)
        assert set(run.outcomes.values()) == {"failed"}
        message = run.messages["system_checks.SystemChecksTest.test_find_no_errors"]
        assert "smoketest.E108: SMOKETEST_ESSENTIALS_CLOCK_TOLERANCE is -1; it must be" in message
        assert message.endswith("or silence intended ones with SILENCED_SYSTEM_CHECKS.")
        silenced = essentials("system_checks", SILENCED_SYSTEM_CHECKS=["smoketest.E108"], **wrong)
        assert silenced.outcomes["system_checks.SystemChecksTest.test_find_no_errors"] == "passed"

    def test_deployment_warning(self, essentials: Essentials) -> None:
        run = essentials("system_checks", SECRET_KEY="short")
        assert run.outcomes == {
            "system_checks.SystemChecksTest.test_find_no_errors": "passed",
            "system_checks.SystemChecksTest.test_are_ready_for_production": "failed",
        }
        message = run.messages["system_checks.SystemChecksTest.test_are_ready_for_production"]
        assert "security.W009" in message
        assert run.status == "PASS"

    @pytest.mark.django_db(transaction=True, databases="__all__")
    def test_check_that_uses_a_database(self, essentials: Essentials) -> None:
        """A check without the tag "database" may use one, as with ``manage.py check``."""

        def check_and_write(**_: Any) -> list[CheckMessage]:
            Account.objects.create(name="written by a check")
            return []

        registry.register(check_and_write)
        try:
            run = essentials("system_checks")
        finally:
            registry.registered_checks.remove(check_and_write)
        assert run.outcomes["system_checks.SystemChecksTest.test_find_no_errors"] == "passed"
        assert not Account.objects.filter(name="written by a check").exists()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [(["gunicorn"], "skipped"), (["manage.py", "smoketest"], "passed")],
    )
    def test_first_minute_of_a_process(
        self,
        essentials: Essentials,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        expected: str,
    ) -> None:
        """The checks do not delay the first requests of a web worker."""
        monkeypatch.setattr("smoketest.contrib.essentials.apps.STARTED_AT", time.monotonic())
        monkeypatch.setattr("sys.argv", arguments)
        run = essentials("system_checks.SystemChecksTest.test_find_no_errors")
        assert set(run.outcomes.values()) == {expected}

    def test_exception_in_check(self, essentials: Essentials) -> None:
        run = essentials("system_checks", ROOT_URLCONF="no.such.urls")
        assert set(run.outcomes.values()) == {"failed"}
        message = run.messages["system_checks.SystemChecksTest.test_find_no_errors"]
        assert (
            "The system checks cannot be run: ModuleNotFoundError: No module named 'no'." in message
        )


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            ("SKIP", "mail"),
            ("SKIP", ["e-mail"]),
            ("READ_ONLY_DATABASES", "replica"),
            ("STORAGE_FOLDER", "/absolute"),
            ("STORAGE_FOLDER", "a/../../b"),
            ("STORAGE_FOLDER", None),
            ("MIN_FREE_DISK", 5),
            ("ENOUGH_FREE_DISK", "10 GB"),
            ("MIN_FREE_MEMORY", -0.1),
            ("ENOUGH_FREE_MEMORY", -1),
            ("CLOCK_TOLERANCE", 0),
            ("HOSTS", "db.internal"),
            ("HOSTS", ["http://db.internal"]),
            ("HOSTS", ["db.internal:5432"]),
        ],
    )
    def test_invalid_value(self, name: str, wrong: object) -> None:
        name = f"SMOKETEST_ESSENTIALS_{name}"
        number = list(EssentialsConf.settings).index(name) + 101
        with override_settings(INSTALLED_APPS=APPS, **{name: wrong}):
            (error,) = run_checks(tags=["smoketest"])
        assert error.id == f"smoketest.E{number}"
        assert error.msg.startswith(f"{name} is {wrong!r}; it must be ")

    def test_invalid_value__lists_parts(self) -> None:
        with override_settings(INSTALLED_APPS=APPS, SMOKETEST_ESSENTIALS_SKIP=["e-mail"]):
            (error,) = run_checks(tags=["smoketest"])
        assert all(part in error.msg for part in PARTS)

    @pytest.mark.parametrize(
        ("name", "wrong", "number", "hint"),
        [
            ("SKIP", "caches.sesions", "E110", "The names in 'caches' are default."),
            ("SKIP", "memory.host", "E110", "Use 'memory' without a name."),
            (
                "READ_ONLY_DATABASES",
                "replica",
                "E111",
                "The names in 'databases' are default, other.",
            ),
        ],
    )
    def test_unknown_target(self, name: str, wrong: str, number: str, hint: str) -> None:
        with override_settings(INSTALLED_APPS=APPS, **{f"SMOKETEST_ESSENTIALS_{name}": [wrong]}):
            (error,) = run_checks(tags=["smoketest"])
        assert (error.id, error.hint) == (f"smoketest.{number}", hint)
        assert repr(wrong) in error.msg

    def test_known_targets(self) -> None:
        everything = [*PARTS, "caches.default", "disks.temporary", "mail.default", "clock.other"]
        with override_settings(INSTALLED_APPS=APPS, SMOKETEST_ESSENTIALS_SKIP=everything):
            assert run_checks(tags=["smoketest"]) == []

    def test_all_parts_excluded(self, essentials: Essentials) -> None:
        run = essentials("", SMOKETEST_ESSENTIALS_SKIP=PARTS)
        assert run.outcomes == {}
