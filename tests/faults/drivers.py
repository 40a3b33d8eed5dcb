"""Methods and cursors of the database driver."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connection, connections, transaction

from smoketest import SmokeTest
from tests.faults.backends import Backend
from tests.faults.fault import detected, fails, fault, passes, refused, sql, write
from tests.ledger.models import Account

REFUSED = "Driver calls that end the transaction are refused."
EARLIER_TESTS = "Cursors and connections of an earlier test do not bypass isolation."
AS_IN_REQUEST = "The driver works as in a request, and everything is rolled back."
DETECTED = "A commit that was not recognized is detected at the end of the test."

INSERT = "INSERT INTO ledger_account (name) VALUES ('by the driver')"


def driver() -> Any:
    """Return the driver's connection, with the test's transaction."""
    write()
    return connection.connection


@fault(REFUSED, refused("COMMIT"))
def commit_by_driver_cursor() -> None:
    """Runs COMMIT with a cursor of the driver."""
    driver().cursor().execute("COMMIT")


@fault(REFUSED, refused("COMMIT"))
def driver_commit() -> None:
    """Calls the driver's commit()."""
    driver().commit()


@fault(REFUSED, refused("ROLLBACK"))
def driver_rollback() -> None:
    """Calls the driver's rollback()."""
    driver().rollback()


@fault(REFUSED, sqlite=refused("COMMIT"), postgresql=refused("COMMIT"))
def commit_by_driver_execute() -> None:
    """Runs COMMIT with execute() of the driver's connection."""
    driver().execute("COMMIT")


@fault(REFUSED, mariadb=refused("COMMIT"))
def driver_query() -> None:
    """Runs COMMIT with query() of the driver's connection."""
    driver().query("COMMIT")


@fault(REFUSED, sqlite=refused("COMMIT"))
def execute_script() -> None:
    """Runs executescript(), before which the driver commits."""
    driver().executescript("SELECT 1")


@fault(REFUSED, sqlite=refused("COMMIT"))
def commit_in_a_script() -> None:
    """Runs a script that contains COMMIT."""
    driver().cursor().executescript("SELECT 1; COMMIT; SELECT 2")


@fault(REFUSED, sqlite=refused("COMMIT"))
def isolation_level() -> None:
    """Sets the driver's isolation level, which commits."""
    driver().isolation_level = None


@fault(REFUSED, postgresql=fails("autocommit", word="refused"))
def driver_autocommit() -> None:
    """Disables the driver's autocommit."""
    driver().autocommit = False


@fault(REFUSED, mariadb=refused("autocommit"))
def driver_autocommit_method() -> None:
    """Enables the driver's autocommit, which commits on MariaDB."""
    driver().autocommit(True)


@fault(REFUSED, sqlite=refused())
def authorizer_removed() -> None:
    """Removes SQLite's authorizer, and commits."""
    driver().set_authorizer(None)
    sql("COMMIT")


@fault(REFUSED, mariadb=refused("CREATE TABLE"), postgresql=passes(), sqlite=passes())
def create_table_by_driver() -> None:
    """Creates a table with a cursor of the driver."""
    driver().cursor().execute("CREATE TABLE leftover (id integer)")


@fault(REFUSED, mariadb=detected("CALL"), postgresql=fails("termination", word="refused"))
def callproc() -> None:
    """Calls a procedure that commits, with Django's callproc() or CALL."""
    write()
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.callproc("committing")
        else:
            cursor.execute("CALL committing()")


@fault(DETECTED, postgresql=detected())
def libpq_commit() -> None:
    """Sends COMMIT with the functions of libpq."""
    driver().pgconn.exec_(b"COMMIT")


@fault(AS_IN_REQUEST, postgresql=passes())
def driver_transaction(test: SmokeTest) -> None:
    """Uses the driver's transaction(), which creates a savepoint here."""
    own = driver()
    with own.transaction():
        own.execute(INSERT)
    test.assertEqual(Account.objects.count(), 4)


@fault(AS_IN_REQUEST, passes())
def write_by_driver(test: SmokeTest) -> None:
    """Writes with a cursor of the driver."""
    driver().cursor().execute(INSERT)
    test.assertEqual(Account.objects.count(), 4)


@fault(AS_IN_REQUEST, passes("passed", "passed"))
class CursorLeftOpen(SmokeTest):
    """Reads some of the rows of a cursor, and leaves it open."""

    def test_1(self) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM ledger_account")
        _kept[:] = [cursor]
        write()

    def test_2(self) -> None:
        write()


@fault(AS_IN_REQUEST, passes("passed", "passed"), leaves_garbage=True)
class IteratorLeftOpen(SmokeTest):
    """Leaves a server-side cursor open that fetches one row at a time."""

    def test_1(self) -> None:
        write()
        rows = Account.objects.iterator(chunk_size=1)
        next(rows)
        _kept[:] = [rows]

    def test_2(self) -> None:
        write()
        with suppress(Exception):
            _kept.pop().close()


@contextmanager
def _without_warnings(_: Backend) -> Iterator[None]:
    """PyMySQL issues a warning; mysqlclient does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@fault(AS_IN_REQUEST, mariadb=passes("passed", "passed"), context=_without_warnings)
class UnbufferedCursorLeftOpen(SmokeTest):
    """Leaves the rows of an unbuffered cursor unread."""

    def test_1(self) -> None:
        from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped] # noqa: PLC0415

        cursor = driver().cursor(SSCursor)
        cursor.execute("SELECT a.id FROM ledger_account a, ledger_account b")
        cursor.fetchone()
        _kept[:] = [cursor]

    def test_2(self) -> None:
        write()
        with suppress(Exception):
            _kept.pop().close()


@fault(AS_IN_REQUEST, postgresql=passes())
def cursor_with_hold() -> None:
    """Declares a cursor WITH HOLD, which would remain open after a commit."""
    sql("DECLARE leftover CURSOR WITH HOLD FOR SELECT * FROM ledger_account")
    write()


_kept: list[Any] = []

_CLOSED = fails(outcomes=("passed", "errored"), word="refused")


@fault(EARLIER_TESTS, passes("passed", "passed"), sqlite=_CLOSED)
class CursorOfAnEarlierTest(SmokeTest):
    """Writes with a Django cursor that an earlier test created."""

    def test_1(self) -> None:
        write()
        _kept[:] = [connection.cursor()]

    def test_2(self) -> None:
        _kept[0].execute(INSERT)
        self.assertEqual(Account.objects.count(), 3)


@fault(EARLIER_TESTS, _CLOSED)
class DriverCursorOfAnEarlierTest(SmokeTest):
    """Writes with a driver cursor that an earlier test created, before using Django."""

    def test_1(self) -> None:
        _kept[:] = [driver().cursor()]

    def test_2(self) -> None:
        _kept[0].execute(INSERT)


@fault(EARLIER_TESTS, passes("passed", "passed"))
class DriverBeforeDjango(SmokeTest):
    """Writes with a driver connection that an earlier test opened, before using Django."""

    def test_1(self) -> None:
        write()

    def test_2(self) -> None:
        connection.connection.cursor().execute(INSERT)


@fault(AS_IN_REQUEST, passes("passed", "passed"))
class DriverClosed(SmokeTest):
    """Closes the driver's connection without Django."""

    def test_1(self) -> None:
        driver().close()

    def test_2(self) -> None:
        with transaction.atomic():
            write()


@fault(AS_IN_REQUEST, passes("passed", "passed"))
class ForgetDriver(SmokeTest):
    """Writes, and sets the driver's connection to None without closing it, or after that."""

    def test_1(self) -> None:
        write()
        connection.connection = None

    def test_2(self) -> None:
        driver().close()
        connection.connection = None


@fault(
    "A test can only use isolated connections.",
    fails("replace the driver's connection", outcomes=("errored", "passed"), word="refused"),
)
class ReplaceDriver(SmokeTest):
    """Writes, and replaces the driver's connection with that of another database."""

    def test_1(self) -> None:
        Account.objects.using("other").count()
        write()
        connection.connection = connections["other"].connection

    def test_2(self) -> None:
        write()


@fault(
    "Open operations of the driver do not prevent the rollback.",
    postgresql=fails("as it should", outcomes=("failed", "passed"), word="failed, rolled back"),
)
class StreamLeftOpen(SmokeTest):
    """Fails while a stream of the driver is open, which holds its lock."""

    def test_1(self) -> None:
        rows = driver().cursor().stream("SELECT generate_series(1, 1000)")
        next(rows)
        _kept[:] = [rows]
        self.fail("as it should")

    def test_2(self) -> None:
        write()


@fault(
    "Open operations of the driver do not prevent the rollback.",
    postgresql=passes("passed", "passed"),
)
class PipelineLeftOpen(SmokeTest):
    """Leaves a pipeline of the driver open."""

    def test_1(self) -> None:
        driver().pgconn.enter_pipeline_mode()

    def test_2(self) -> None:
        write()
