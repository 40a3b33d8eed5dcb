"""Low-level access through the driver's connection."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from django.db import connection

from smoketest import SmokeTest
from tests.faults.fault import fails, fault, passes, write
from tests.ledger.models import Account

FIRST = "The driver's connection is isolated, even if a test uses nothing else."
KEPT = "Cursors and connections of an earlier test do not bypass isolation."

INSERT = "INSERT INTO ledger_account (name) VALUES ('by the driver')"

_kept: list[Any] = []


class _OpensConnection(SmokeTest):
    """A test that opens the connection of the thread, before `test_2` uses the driver."""

    __test__ = False  # for pytest

    def test_1(self) -> None:
        write()


def insert() -> None:
    """Insert a row past the cursors of the driver's connection."""
    insert_through(connection.connection)


def insert_through(driver: Any) -> None:
    """Insert a row with a cursor class that isolation has not prepared, or without a cursor."""
    if connection.vendor == "sqlite":
        import sqlite3  # noqa: PLC0415

        sqlite3.Cursor(driver).execute(INSERT)
    elif connection.vendor == "postgresql":
        from psycopg import ClientCursor  # noqa: PLC0415

        ClientCursor(driver).execute(INSERT)
    else:
        type(driver).query(driver, INSERT)  # not the method that isolation has replaced


@fault(FIRST, passes("passed", "passed"))
class InsertByDriverFirst(_OpensConnection):
    """Inserts with another cursor class of the driver, as the first use in the test."""

    def test_2(self) -> None:
        insert()
        self.assertEqual(Account.objects.count(), 3)


@fault(FIRST, postgresql=passes("passed", "passed"))
class RawCursorFirst(_OpensConnection):
    """Inserts with psycopg's RawCursor, as the first use in the test."""

    def test_2(self) -> None:
        from psycopg import RawCursor  # noqa: PLC0415

        RawCursor(connection.connection).execute(INSERT)


@fault(FIRST, postgresql=passes("passed", "passed"))
class LibpqFirst(_OpensConnection):
    """Inserts with the functions of libpq, as the first use in the test."""

    def test_2(self) -> None:
        connection.connection.pgconn.exec_(INSERT.encode())
        self.assertEqual(Account.objects.count(), 3)


@fault(FIRST, postgresql=passes("passed", "passed"))
class DriverTransactionFirst(_OpensConnection):
    """Inserts in the driver's transaction(), as the first use in the test."""

    def test_2(self) -> None:
        driver = connection.connection
        with driver.transaction():
            driver.execute(INSERT)
        self.assertEqual(Account.objects.count(), 3)


@fault(FIRST, postgresql=passes("passed", "passed"))
class PipelineFirst(_OpensConnection):
    """Inserts in a pipeline of the driver, as the first use in the test."""

    def test_2(self) -> None:
        driver = connection.connection
        with driver.pipeline():
            driver.execute(INSERT)
        self.assertEqual(Account.objects.count(), 3)


@fault(FIRST, sqlite=fails("in use", outcomes=("passed", "errored")))
class BackupIntoConnection(_OpensConnection):
    """Overwrites the database with the driver's backup(), as the first use in the test."""

    def test_2(self) -> None:
        import sqlite3  # noqa: PLC0415

        with closing(sqlite3.connect(":memory:")) as other:
            other.backup(connection.connection)


_READ_ONLY = fails(outcomes=("passed", "errored"), word="refused")


@fault("With read_only, the database refuses writes.", _READ_ONLY)
class ReadOnlyInsertByDriverFirst(SmokeTest):
    """Reads in a test, and inserts with the driver as the first use in the next one."""

    read_only = True

    def test_1(self) -> None:
        Account.objects.count()

    def test_2(self) -> None:
        insert()


_KEPT_CLOSED = fails(outcomes=("passed", "errored"), word="refused")


@fault(KEPT, _KEPT_CLOSED)
class DriverOfAnEarlierTest(SmokeTest):
    """Inserts first with the driver's connection that an earlier test has kept."""

    def test_1(self) -> None:
        write()
        _kept[:] = [connection.connection]

    def test_2(self) -> None:
        insert_through(_kept.pop())


@fault(KEPT, _KEPT_CLOSED)
class DriverOfACursorOfAnEarlierTest(SmokeTest):
    """Inserts first with the driver's connection that an earlier test took from a cursor."""

    def test_1(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            _kept[:] = [cursor.connection]

    def test_2(self) -> None:
        insert_through(_kept.pop())


@fault(FIRST, passes("passed", "passed", "passed"))
class DriverFirstTwice(_OpensConnection):
    """Inserts with the driver as the first use, in two tests that follow each other."""

    def test_2(self) -> None:
        insert()

    test_3 = test_2
