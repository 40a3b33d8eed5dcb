"""Hung tests and timeouts."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from smoketest import SmokeTest
from tests.faults.fault import (
    Expected,
    fails,
    fault,
    hang,
    sql,
    times_out,
    write,
)
from tests.hanging import HANG, hang_while, released
from tests.ledger.models import Account

PROMISE = (
    "The timeout is reported within half a second, and locks are released within another second."
)
LIFTED = "A test that changes its limits is stopped anyway."
LATE = "Database access after the timeout is refused."
AGAIN = "After a timeout, fixtures run again for the remaining tests."


def hangs(name: str, text: str, act: Callable[[], Any]) -> None:
    """A row in which a test writes, and then hangs."""

    def test_it() -> None:
        write()
        act()

    fault(PROMISE, times_out(), name=name, text=text)(test_it)


def _when_released(act: Callable[[], object]) -> None:
    """Call the function on another thread when the test releases hanging code."""

    def wait() -> None:
        released.wait(HANG)
        act()

    threading.Thread(target=wait, daemon=True).start()


def _never_answering() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as other_end,
    ):
        _when_released(lambda: other_end.shutdown(socket.SHUT_RDWR))
        client.recv(1)


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    _when_released(lock.release)
    lock.acquire()


def in_the_database() -> None:
    """Keep the database busy for half a minute."""
    sql(
        {
            "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < 1000000000) SELECT max(i) FROM n",
            "postgresql": "SELECT pg_sleep(30)",
            "mysql": "SELECT SLEEP(30)",
        }[connection.vendor]
    )


hangs("sleep", "Sleeps.", lambda: hang_while(lambda: time.sleep(0.2)))
hangs("busy_loop", "Runs an endless loop in Python.", lambda: hang_while(int))
hangs("dead_socket", "Waits for a socket that never answers.", _never_answering)
hangs("thread_lock", "Waits for a threading lock that is never released.", _lock)
hangs("sleep_in_the_database", "Waits for a query that takes half a minute.", in_the_database)


def _work_in_the_database() -> None:
    many = " UNION ALL ".join(["SELECT 1 AS x"] * 30)
    sql(f"SELECT count(*) FROM {', '.join(f'({many}) t{n}' for n in range(9))}")  # noqa: S608


hangs("work_in_the_database", "Waits for a query that computes.", _work_in_the_database)


def _write_in_the_database() -> None:
    """One statement that goes on writing."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000)"
    insert = "INSERT INTO ledger_account (name) "
    select = "SELECT {} FROM n"
    name = {
        "sqlite": "'n' || i",
        "postgresql": "'n' || i",
        "mysql": "CONCAT('n', i)",
    }[connection.vendor]
    if connection.vendor == "mysql":
        sql("SET SESSION max_recursive_iterations = 30000000")
        sql(insert + numbers + select.format(name))
    else:
        sql(numbers + insert + select.format(name))


hangs("endless_write", "Writes rows endlessly, in one statement.", _write_in_the_database)


@fault(PROMISE, times_out())
def hang_in_atomic() -> None:
    """Hangs in nested atomic blocks."""
    with transaction.atomic(), transaction.atomic():
        write()
        hang()


@fault(PROMISE, times_out())
def hang_with_locked_rows() -> None:
    """Hangs holding locks of rows."""
    with transaction.atomic():
        list(Account.objects.select_for_update())
        Account.objects.filter(id=1).update(name="changed")
        hang()


@fault(PROMISE, postgresql=times_out())
def hang_with_locked_table() -> None:
    """Hangs holding the lock of a whole table, which it changes."""
    sql("ALTER TABLE ledger_account ADD COLUMN leftover integer")
    hang()


@fault(PROMISE, postgresql=times_out(), mariadb=times_out())
def hang_with_session_lock() -> None:
    """Hangs holding a lock of the session."""
    sql({"postgresql": "SELECT pg_advisory_lock(1)", "mysql": "SELECT GET_LOCK('leftover', 1)"}[
        connection.vendor
    ])  # fmt: skip
    hang()


@fault(PROMISE, times_out(), is_untidy=True)
def hang_with_open_cursor() -> None:
    """Hangs with a server-side cursor open."""
    write()
    rows = Account.objects.iterator(chunk_size=1)
    next(rows)
    hang()
    list(rows)


@fault(PROMISE, times_out())
def hang_on_two_databases() -> None:
    """Hangs after it has written to two databases."""
    for alias in ("default", "other"):
        write(alias=alias)
    hang()


@fault(PROMISE, times_out())
def hang_before_touching() -> None:
    """Hangs before it uses any database, and then tries to."""
    hang()
    write()


@fault(PROMISE, times_out("passed"))
class HangInAsync(SmokeTest):
    """Hangs in an async test."""

    async def test_1(self) -> None:
        await Account.objects.acreate(name="by the smoke test")
        await asyncio.sleep(HANG)

    async def test_2(self) -> None:
        self.assertEqual(await Account.objects.acount(), 2)


@fault(PROMISE, times_out())
class HangInSetUp(SmokeTest):
    """Hangs in setUp."""

    def setUp(self) -> None:
        write()
        hang()

    def test_it(self) -> None: ...


@fault(PROMISE, times_out("timed_out"))
class HangInTearDown(SmokeTest):
    """Hangs in tearDown, after each of two tests."""

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()

    test_2 = test_1

    def tearDown(self) -> None:
        hang()


@fault(PROMISE, times_out("passed"))
class HangInCleanup(SmokeTest):
    """Hangs in a cleanup."""

    def test_1(self) -> None:
        write()
        self.addCleanup(hang)

    def test_2(self) -> None:
        write()


@fault(PROMISE, times_out("timed_out", says="setUpClass: timed out after"))
class HangInSetUpClass(SmokeTest):
    """Hangs in setUpClass."""

    @classmethod
    def setUpClass(cls) -> None:
        write()
        hang()

    def test_1(self) -> None: ...

    def test_2(self) -> None: ...


@fault(
    PROMISE,
    Expected("timed out, freed", ("passed", "timed_out"), ("timed out after",)),
    timeout=3,  # also that of the test, which must pass
)
class HangInTearDownClass(SmokeTest):
    """Hangs in tearDownClass, which has a result of its own."""

    @classmethod
    def setUpClass(cls) -> None:
        write()

    def test_1(self) -> None: ...

    @classmethod
    def tearDownClass(cls) -> None:
        hang()


def _write_and_hang() -> None:
    write()
    hang()


@fault(
    PROMISE,
    times_out(says="setUpModule: timed out after"),
    module={"setUpModule": _write_and_hang},
)
class HangInSetUpModule(SmokeTest):
    """Hangs in setUpModule."""

    def test_1(self) -> None: ...


@fault(AGAIN, Expected("timed out, freed", ("passed", "timed_out", "passed"), ("timed out",)))
class FixturesAfterATimeOut(SmokeTest):
    """Hangs inside fixtures of the class; the next test finds them as they should be."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
        write()

    def test_2(self) -> None:
        self.test_1()
        hang()

    test_3 = test_1


@fault(
    AGAIN,
    Expected("timed out, freed", ("timed_out", "passed"), ("timed out",)),
    module={"setUpModule": lambda: write("setUpModule")},
)
class ModuleFixturesAfterATimeOut(SmokeTest):
    """Hangs inside fixtures of the module; the next test finds them as they should be."""

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
        hang()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 3)


@fault(LIFTED, postgresql=times_out(), mariadb=times_out())
def statement_limit_lifted() -> None:
    """Lifts the limits of the session, and waits for a query that takes half a minute."""
    write()
    for statement in {
        "postgresql": (
            "SET statement_timeout = 0",
            "SET SESSION idle_in_transaction_session_timeout = 0",
        ),
        "mysql": ("SET SESSION max_statement_time = 0", "SET SESSION wait_timeout = 28800"),
    }[connection.vendor]:
        sql(statement)
    in_the_database()


@fault(LIFTED, postgresql=times_out())
def statement_limit_lifted_by_function() -> None:
    """Lifts the limit by a function, and waits for a query that takes half a minute."""
    sql("SELECT set_config('statement_timeout', '0', false)")
    in_the_database()


@fault(LIFTED, postgresql=times_out(), mariadb=times_out())
def statement_limit_lifted_by_driver() -> None:
    """Lifts the limit by the driver, and waits by the driver for half a minute."""
    write()
    cursor = connection.connection.cursor()
    if connection.vendor == "postgresql":
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SELECT pg_sleep(30)")
    else:
        cursor.execute("SET max_statement_time = 0")
        cursor.execute("SELECT SLEEP(30)")


@fault(
    "The timeout is reported within half a second; Python functions cannot be interrupted.",
    sqlite=replace(times_out(), word="timed out, held until it returns", is_held=True),
)
def hang_in_a_function_of_python() -> None:
    """Hangs in a function of Python that a query calls."""
    write()
    connection.connection.create_function("hang", 0, hang)
    sql("SELECT hang()")


# So late that the database's own limit is what ends it.
@fault(
    "The database ends statements that exceed the timeout.",
    postgresql=fails("statement timeout", word="errored by the limit"),
    mariadb=fails("max_statement_time", word="errored by the limit"),
    timeout=2,
    workers=0,
)
def statement_limit() -> None:
    """Waits for a query that takes half a minute, without threads."""
    write()
    in_the_database()


@fault(LATE, times_out())
def late_write() -> None:
    """Continues after its timeout, and writes with Django."""
    hang()
    write()


@fault(LATE, times_out())
def late_write_with_open_cursor() -> None:
    """Continues after its timeout, and writes with a cursor of the driver."""
    write()
    cursor = connection.connection.cursor()
    hang()
    cursor.execute("INSERT INTO ledger_account (name) VALUES ('late')")
    connection.connection.commit()


@fault(LATE, times_out())
def late_commit() -> None:
    """Continues after its timeout, and commits with the driver."""
    write()
    own = connection.connection
    hang()
    own.commit()


@fault(LATE, times_out())
def late_reconnect() -> None:
    """Continues after its timeout, reconnects, and writes."""
    write()
    hang()
    connection.close()
    connection.connect()
    write()


@fault(LATE, times_out())
def late_end_of_atomic() -> None:
    """Continues after its timeout in an atomic block, and leaves the block without an exception."""
    with transaction.atomic(durable=True):
        write()
        transaction.on_commit(lambda: write("by a hook"))
        hang()
