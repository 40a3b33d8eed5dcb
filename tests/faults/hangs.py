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

GUARANTEE = (
    "The timeout is reported within half a second, and locks are released within another second."
)
LIMITS_CHANGED = "A test that changes its limits is stopped anyway."
LATE = "Database access after the timeout is refused."
AGAIN = "After a timeout, fixtures run again for the remaining tests."


def hangs(name: str, text: str, act: Callable[[], Any]) -> None:
    """Add a row whose test writes, and then hangs."""

    def test_it() -> None:
        write()
        act()

    fault(GUARANTEE, times_out(), name=name, text=text)(test_it)


def _when_released(act: Callable[[], object]) -> None:
    """Call the function in another thread when hanging code is released."""

    def wait() -> None:
        released.wait(HANG)
        act()

    threading.Thread(target=wait, daemon=True).start()


def _unresponsive_socket() -> None:
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


def sleep_in_the_database() -> None:
    """Run a query that takes half a minute."""
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
hangs("dead_socket", "Waits for a socket that never responds.", _unresponsive_socket)
hangs("thread_lock", "Waits for a threading lock that is never released.", _lock)
hangs("sleep_in_the_database", "Runs a query that takes half a minute.", sleep_in_the_database)


def _work_in_the_database() -> None:
    many = " UNION ALL ".join(["SELECT 1 AS x"] * 30)
    sql(f"SELECT count(*) FROM {', '.join(f'({many}) t{n}' for n in range(9))}")  # noqa: S608


hangs("work_in_the_database", "Runs a CPU-bound query.", _work_in_the_database)


def _write_in_the_database() -> None:
    """Run a statement that writes endlessly."""
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


hangs("endless_write", "Writes rows endlessly in a single statement.", _write_in_the_database)


@fault(GUARANTEE, times_out())
def hang_in_atomic() -> None:
    """Hangs in nested atomic blocks."""
    with transaction.atomic(), transaction.atomic():
        write()
        hang()


@fault(GUARANTEE, times_out())
def hang_with_locked_rows() -> None:
    """Hangs while holding row locks."""
    with transaction.atomic():
        list(Account.objects.select_for_update())
        Account.objects.filter(id=1).update(name="changed")
        hang()


@fault(GUARANTEE, postgresql=times_out())
def hang_with_locked_table() -> None:
    """Hangs while holding a table lock, after writing to the table."""
    sql("ALTER TABLE ledger_account ADD COLUMN leftover integer")
    hang()


@fault(GUARANTEE, postgresql=times_out(), mariadb=times_out())
def hang_with_session_lock() -> None:
    """Hangs while holding a session lock."""
    sql({"postgresql": "SELECT pg_advisory_lock(1)", "mysql": "SELECT GET_LOCK('leftover', 1)"}[
        connection.vendor
    ])  # fmt: skip
    hang()


@fault(GUARANTEE, times_out(), leaves_garbage=True)
def hang_with_open_cursor() -> None:
    """Hangs with an open server-side cursor."""
    write()
    rows = Account.objects.iterator(chunk_size=1)
    next(rows)
    hang()
    list(rows)


@fault(GUARANTEE, times_out())
def hang_on_two_databases() -> None:
    """Hangs after writing to two databases."""
    for alias in ("default", "other"):
        write(alias=alias)
    hang()


@fault(GUARANTEE, times_out())
def hang_before_first_query() -> None:
    """Hangs before using a database, and then tries to use it."""
    hang()
    write()


@fault(GUARANTEE, times_out("passed"))
class HangInAsync(SmokeTest):
    """Hangs in an async test."""

    async def test_1(self) -> None:
        await Account.objects.acreate(name="by the smoke test")
        await asyncio.sleep(HANG)

    async def test_2(self) -> None:
        self.assertEqual(await Account.objects.acount(), 2)


@fault(GUARANTEE, times_out())
class HangInSetUp(SmokeTest):
    """Hangs in setUp."""

    def setUp(self) -> None:
        write()
        hang()

    def test_it(self) -> None: ...


@fault(GUARANTEE, times_out("timed_out"))
class HangInTearDown(SmokeTest):
    """Hangs in tearDown, in each of two tests."""

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()

    test_2 = test_1

    def tearDown(self) -> None:
        hang()


@fault(GUARANTEE, times_out("passed"))
class HangInCleanup(SmokeTest):
    """Hangs in a cleanup."""

    def test_1(self) -> None:
        write()
        self.addCleanup(hang)

    def test_2(self) -> None:
        write()


@fault(GUARANTEE, times_out("timed_out", in_message="setUpClass: timed out after"))
class HangInSetUpClass(SmokeTest):
    """Hangs in setUpClass."""

    @classmethod
    def setUpClass(cls) -> None:
        write()
        hang()

    def test_1(self) -> None: ...

    def test_2(self) -> None: ...


@fault(
    GUARANTEE,
    Expected("timed out, freed", ("passed", "timed_out"), ("timed out after",)),
    timeout=3,  # also applies to the test, which must pass
)
class HangInTearDownClass(SmokeTest):
    """Hangs in tearDownClass, which has its own result."""

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
    GUARANTEE,
    times_out(in_message="setUpModule: timed out after"),
    module={"setUpModule": _write_and_hang},
)
class HangInSetUpModule(SmokeTest):
    """Hangs in setUpModule."""

    def test_1(self) -> None: ...


@fault(AGAIN, Expected("timed out, freed", ("passed", "timed_out", "passed"), ("timed out",)))
class FixturesAfterTimeout(SmokeTest):
    """Hangs in a class with fixtures, which are intact for the next test."""

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
class ModuleFixturesAfterTimeout(SmokeTest):
    """Hangs in a module with fixtures, which are intact for the next test."""

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
        hang()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 3)


@fault(LIMITS_CHANGED, postgresql=times_out(), mariadb=times_out())
def statement_limit_removed() -> None:
    """Removes the session limits, and runs a query that takes half a minute."""
    write()
    for statement in {
        "postgresql": (
            "SET statement_timeout = 0",
            "SET SESSION idle_in_transaction_session_timeout = 0",
        ),
        "mysql": ("SET SESSION max_statement_time = 0", "SET SESSION wait_timeout = 28800"),
    }[connection.vendor]:
        sql(statement)
    sleep_in_the_database()


@fault(LIMITS_CHANGED, postgresql=times_out())
def statement_limit_removed_by_function() -> None:
    """Removes the limit with a function, and runs a query that takes half a minute."""
    sql("SELECT set_config('statement_timeout', '0', false)")
    sleep_in_the_database()


@fault(LIMITS_CHANGED, postgresql=times_out(), mariadb=times_out())
def statement_limit_removed_by_driver() -> None:
    """Removes the limit and runs a query that takes half a minute, both with the driver."""
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
def hang_in_python_function() -> None:
    """Hangs in a Python function that is called by a query."""
    write()
    connection.connection.create_function("hang", 0, hang)
    sql("SELECT hang()")


# So late that the limit in the database takes effect first.
@fault(
    "The database ends statements that exceed the timeout.",
    postgresql=fails("statement timeout", word="errored by the limit"),
    mariadb=fails("max_statement_time", word="errored by the limit"),
    timeout=2,
    workers=0,
)
def statement_limit() -> None:
    """Runs a query that takes half a minute, without threads."""
    write()
    sleep_in_the_database()


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
def late_exit_of_atomic() -> None:
    """Continues after its timeout in an atomic block, and leaves the block normally."""
    with transaction.atomic(durable=True):
        write()
        transaction.on_commit(lambda: write("by a hook"))
        hang()
