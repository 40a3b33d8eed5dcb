"""SQLite files in both journal modes: locks of tests that read, and slots of tests that write."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from smoketest import SmokeTest
from smoketest.checks import check_journal_mode
from smoketest.runner.discovery import Suite
from tests.faults.backends import Backend, site
from tests.faults.conftest import Backends
from tests.faults.fault import LONG, sql, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.ledger.models import Account


@pytest.fixture(params=["delete", "wal"])
def backend(request: pytest.FixtureRequest, backends: Backends) -> Iterator[Backend]:
    """Provide a site whose files have the journal mode."""
    backend = backends("sqlite")
    for alias in backend.aliases:
        backend.execute(f"PRAGMA journal_mode = {request.param}", alias)
    try:
        with backend.restore_on_error(), site(backend.databases()):
            yield backend
            assert_nothing_held(backend)
    finally:
        for alias in backend.aliases:
            backend.execute("PRAGMA journal_mode = delete", alias)
    assert changes(backend) == []


INSERT = "INSERT INTO ledger_account (name) SELECT * FROM new"
WRITE = "UPDATE ledger_account SET name = name"


def assert_production(backend: Backend, statement: str) -> None:
    """Assert that production does not wait for a lock."""
    with closing(backend.connect(patience=0)) as production:
        production.execute(statement).fetchall()


def test_read__does_not_block_writes_of_production(backend: Backend) -> None:
    """Hold no lock between the statements of a test that has only read."""

    class Reads(SmokeTest):
        @classmethod
        def setUpClass(cls) -> None:
            Account.objects.count()

        def test_1(self) -> None:
            self.assertEqual(len(Account.objects.all()), 2)
            assert_production(backend, WRITE)
            self.assertEqual(Account.objects.get(id=1).id, 1)
            assert_production(backend, WRITE)
            write()  # no error, although production has written since the first read
            self.assertEqual(Account.objects.count(), 3)

        def test_2(self) -> None:
            self.assertEqual(Account.objects.count(), 2)
            assert_production(backend, WRITE)

    class ReadsOnly(Reads):
        read_only = True

        def test_1(self) -> None:
            self.assertEqual(Account.objects.count(), 2)
            assert_production(backend, WRITE)

    for case in (Reads, ReadsOnly):
        report = run_suite(suite(case, "sqlite_files"))
        assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


def test_read__is_recognized(backend: Backend) -> None:
    """Hold no lock after common table expressions and descriptions of tables."""

    class Reads(SmokeTest):
        def test_1(self) -> None:
            for statement in (
                "WITH one (id) AS (SELECT 1) SELECT * FROM ledger_account JOIN one USING (id)",
                "VALUES (1)",
                "PRAGMA table_info(ledger_account)",
                "PRAGMA foreign_key_check",
            ):
                sql(statement)
                assert_production(backend, WRITE)

        def test_2(self) -> None:
            sql(f"WITH new AS (SELECT 'new') {INSERT}")
            self.assertEqual(Account.objects.count(), 3)

    report = run_suite(suite(Reads, "sqlite_files"))
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


def test_logged_queries__hold_no_lock(backend: Backend) -> None:
    """Django reads the driver's connection to log a query, and for the limits of the database."""

    class LogsAndReads(SmokeTest):
        def test_it(self) -> None:
            with CaptureQueriesContext(connection) as captured:
                Account.objects.get(id=1)
                list(Account.objects.in_bulk([1, 2]))
            self.assertIn("1", captured[0]["sql"])
            assert_production(backend, WRITE)
            Account.objects.create(name="written after production")

    report = run_suite(suite(LogsAndReads, "sqlite_files"))
    assert outcomes(report) == ("passed",), report.results[0].message


def test_large_write__does_not_block_reads_of_production(backend: Backend) -> None:
    """Keep changed pages in memory, because writing them to the file needs an exclusive lock."""

    class WritesMuch(SmokeTest):
        def test_it(self) -> None:
            Account.objects.bulk_create(
                Account(name=f"{n} {'x' * 90}", id=n) for n in range(100, 60_000)
            )
            assert_production(backend, "SELECT * FROM ledger_account")

    report = run_suite(suite(WritesMuch, "sqlite_files"))
    assert outcomes(report) == ("passed",), report.results[0].message


@pytest.mark.usefixtures("backend")
def test_unrecognized_write__fails_before_the_transaction() -> None:
    """Roll back or refuse a write that does not look like one, instead of committing it."""

    class WritesByDriver(SmokeTest):
        def test_1(self) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                insert = "INSERT INTO ledger_account (name) VALUES ('unrecognized')"
                sqlite3.Cursor(cursor.connection).execute(insert)

        def test_2(self) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                sqlite3.Cursor(cursor.connection).execute("PRAGMA query_only = 0")

        def test_3(self) -> None:
            connection.close()
            self.assertEqual(Account.objects.count(), 2)

        def test_4(self) -> None:
            self.assertEqual(Account.objects.count(), 2)
            connection.close()
            write()  # nothing was lost

        def test_5(self) -> None:
            Account.objects.count()
            transaction.set_rollback(True)

        def test_6(self) -> None:
            write()

    report = run_suite(suite(WritesByDriver, "sqlite_files"))
    messages = [r.message for r in report.results]
    assert outcomes(report) == ("passed", "errored", *["passed"] * 4), messages


@pytest.mark.usefixtures("backend")
def test_files__are_used_side_by_side() -> None:
    """Let a test write to a file while another test has written to another one."""
    has_written, is_done = threading.Event(), threading.Event()

    class WritesOne(SmokeTest):
        def test_it(self) -> None:
            write()
            has_written.set()
            self.assertTrue(is_done.wait(LONG / 2))

    class WritesOther(SmokeTest):
        def test_it(self) -> None:
            self.assertTrue(has_written.wait(LONG / 2))
            Account.objects.count()
            write(alias="other")
            is_done.set()

    both = Suite(classes=(*suite(WritesOne, "one").classes, *suite(WritesOther, "other").classes))
    report = run_suite(both, workers=2)
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


@pytest.mark.parametrize("same", ["{0.parent}/./{0.name}", "file:{0}?mode=rw", "{0.parent}/link"])
def test_file__has_one_slot_by_any_name(backend: Backend, same: str) -> None:
    """Wait for a test that has written to the same file by another path."""
    file = Path(backend.databases()["default"]["NAME"])
    has_written, is_waiting = threading.Event(), threading.Event()

    class WritesFile(SmokeTest):
        def test_it(self) -> None:
            write()
            has_written.set()
            self.assertTrue(is_waiting.wait(LONG / 2))
            time.sleep(0.3)  # longer than the lock timeout

    class WritesFileByOtherName(SmokeTest):
        def test_it(self) -> None:
            self.assertTrue(has_written.wait(LONG / 2))
            is_waiting.set()
            write(alias="other")

    both = Suite(
        classes=(*suite(WritesFile, "a").classes, *suite(WritesFileByOtherName, "b").classes)
    )
    databases = backend.databases()
    databases["other"] |= {"NAME": same.format(file), "OPTIONS": {"uri": True}}
    link = file.parent / "link"
    link.symlink_to(file)
    try:
        with site(databases):
            report = run_suite(both, workers=2, lock_timeout=0.1)
    finally:
        link.unlink()
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


@pytest.mark.usefixtures("backend")
def test_files__in_opposite_order_are_no_deadlock() -> None:
    """Stop waiting for a second file after the lock timeout, and name the reason."""
    written = threading.Barrier(2)

    class OneThenOther(SmokeTest):
        first, second = "default", "other"

        def test_it(self) -> None:
            write(alias=self.first)
            written.wait(LONG / 2)
            write(alias=self.second)

    class OtherThenOne(OneThenOther):
        first, second = "other", "default"

    both = Suite(classes=(*suite(OneThenOther, "a").classes, *suite(OtherThenOne, "b").classes))
    report = run_suite(both, workers=2)
    messages = [r.message for r in report.results]
    assert "errored" in outcomes(report), messages
    assert set(outcomes(report)) <= {"errored", "passed"}, messages
    assert any("waiting for another smoke test" in message for message in messages)


def test_check__names_files_without_write_ahead_log(backend: Backend) -> None:
    """Show the setting for each file in another journal mode, and ignore missing files."""
    (mode,) = backend.execute("PRAGMA journal_mode")[0]
    messages = check_journal_mode(databases=["default", "down"])
    connection.close()
    if mode == "wal":
        assert messages == []
    else:
        (message,) = messages
        assert message.id == "smoketest.W008"
        assert "'default' has the journal mode 'delete'" in message.msg
        assert 'OPTIONS"] = {"init_command": "PRAGMA journal_mode=WAL;"}' in str(message.hint)
