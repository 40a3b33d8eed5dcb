"""Methods and cursors of the database driver."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connection, transaction

from smoketest import SmokeTest
from tests.faults.fault import fails, fault, found_out, passes, refused, sql, write
from tests.faults.places import Place
from tests.ledger.models import Account

REFUSED = "Driver calls that end the transaction are refused."
KEPT = "Cursors and connections of an earlier test do not bypass isolation."
AS_EVER = "The driver works as in a request, and everything is rolled back."
FOUND_OUT = "A commit that was not recognized is found out at the end of the test."

INSERT = "INSERT INTO ledger_account (name) VALUES ('by the driver')"


def driver() -> Any:
    """The driver's connection, in the test's transaction."""
    write()
    return connection.connection


@fault(REFUSED, refused("COMMIT"))
def commit_by_driver_cursor() -> None:
    """Runs COMMIT by a cursor of the driver."""
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
    """Runs COMMIT by execute() of the driver's connection."""
    driver().execute("COMMIT")


@fault(REFUSED, mariadb=refused("COMMIT"))
def driver_query() -> None:
    """Runs COMMIT by query() of the driver's connection."""
    driver().query("COMMIT")


@fault(REFUSED, sqlite=refused("COMMIT"))
def execute_script() -> None:
    """Runs a script, before which the driver commits."""
    driver().executescript("SELECT 1")


@fault(REFUSED, sqlite=refused("COMMIT"))
def commit_in_a_script() -> None:
    """Runs a script that commits."""
    driver().cursor().executescript("SELECT 1; COMMIT; SELECT 2")


@fault(REFUSED, sqlite=refused("COMMIT"))
def isolation_level() -> None:
    """Sets the driver's isolation level, at which it commits."""
    driver().isolation_level = None


@fault(REFUSED, postgresql=fails("autocommit", word="refused"))
def driver_autocommit() -> None:
    """Turns the driver's autocommit off."""
    driver().autocommit = False


@fault(REFUSED, mariadb=refused("autocommit"))
def driver_autocommit_method() -> None:
    """Turns the driver's autocommit on, at which MariaDB commits."""
    driver().autocommit(True)


@fault(REFUSED, sqlite=refused())
def authorizer_removed() -> None:
    """Removes the authorizer of SQLite, and commits."""
    driver().set_authorizer(None)
    sql("COMMIT")


@fault(REFUSED, mariadb=refused("CREATE TABLE"), postgresql=passes(), sqlite=passes())
def create_table_by_driver() -> None:
    """Creates a table by a cursor of the driver."""
    driver().cursor().execute("CREATE TABLE leftover (id integer)")


@fault(REFUSED, mariadb=found_out("CALL"), postgresql=fails("termination", word="refused"))
def callproc() -> None:
    """Calls a procedure that commits, by Django's callproc() or CALL."""
    write()
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.callproc("committing")
        else:
            cursor.execute("CALL committing()")


@fault(FOUND_OUT, postgresql=found_out())
def libpq_commit() -> None:
    """Sends COMMIT by the functions of libpq."""
    driver().pgconn.exec_(b"COMMIT")


@fault(AS_EVER, postgresql=passes())
def driver_transaction(test: SmokeTest) -> None:
    """Uses the driver's transaction(), which makes a savepoint here."""
    own = driver()
    with own.transaction():
        own.execute(INSERT)
    test.assertEqual(Account.objects.count(), 4)


@fault(AS_EVER, passes())
def write_by_driver(test: SmokeTest) -> None:
    """Writes by a cursor of the driver."""
    driver().cursor().execute(INSERT)
    test.assertEqual(Account.objects.count(), 4)


@fault(AS_EVER, passes("passed", "passed"))
class CursorLeftOpen(SmokeTest):
    """Reads some rows of a cursor and leaves it open."""

    def test_1(self) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM ledger_account")
        _kept[:] = [cursor]
        write()

    def test_2(self) -> None:
        write()


@fault(AS_EVER, passes("passed", "passed"), is_untidy=True)
class IteratorLeftOpen(SmokeTest):
    """Leaves a server-side cursor open that sends one row at a time."""

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
def _without_warnings(_: Place) -> Iterator[None]:
    """PyMySQL warns, while mysqlclient says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@fault(AS_EVER, mariadb=passes("passed", "passed"), meanwhile=_without_warnings)
class UnbufferedCursorLeftOpen(SmokeTest):
    """Leaves rows of an unbuffered cursor unread, so that the connection is in mid-answer."""

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


@fault(AS_EVER, postgresql=passes())
def cursor_with_hold() -> None:
    """Declares a cursor that outlives the transaction if that commits."""
    sql("DECLARE leftover CURSOR WITH HOLD FOR SELECT * FROM ledger_account")
    write()


_kept: list[Any] = []

_CLOSED = fails(outcomes=("passed", "errored"), word="refused")


@fault(KEPT, passes("passed", "passed"), sqlite=_CLOSED)
class CursorOfAnEarlierTest(SmokeTest):
    """Writes by a cursor of Django that an earlier test made."""

    def test_1(self) -> None:
        write()
        _kept[:] = [connection.cursor()]

    def test_2(self) -> None:
        _kept[0].execute(INSERT)
        self.assertEqual(Account.objects.count(), 3)


@fault(KEPT, passes("passed", "passed"), sqlite=_CLOSED)
class DriverCursorOfAnEarlierTest(SmokeTest):
    """Writes first of all by a driver's cursor that an earlier test made."""

    def test_1(self) -> None:
        _kept[:] = [driver().cursor()]

    def test_2(self) -> None:
        _kept[0].execute(INSERT)


@fault(KEPT, passes("passed", "passed"))
class DriverBeforeDjango(SmokeTest):
    """Writes first of all by the driver's connection, which an earlier test opened."""

    def test_1(self) -> None:
        write()

    def test_2(self) -> None:
        connection.connection.cursor().execute(INSERT)


@fault(AS_EVER, passes("passed", "passed"))
class DriverClosed(SmokeTest):
    """Closes the driver's connection without Django."""

    def test_1(self) -> None:
        driver().close()

    def test_2(self) -> None:
        with transaction.atomic():
            write()


@fault(
    "Open operations of the driver do not prevent the rollback.",
    postgresql=fails("as it should", outcomes=("failed", "passed"), word="failed, rolled back"),
)
class StreamLeftOpen(SmokeTest):
    """Fails while a stream of the driver, which holds its lock, is open."""

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
