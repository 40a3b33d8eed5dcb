"""Smoke tests that pass unless `now` names a fault."""

import socket
import time
import unittest
import uuid
from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import connection, connections, transaction

from catalog.models import Author, Book
from orders.models import Order, OrderLine
from smoketest import SmokeTest

#: Timeout of the test that hangs, and duration of the hang, in seconds.
TIMEOUT = 0.05
HANGS_FOR = 0.3

#: Name of the fault of the next run; empty for none.
now = ""


def write() -> Author:
    return Author.objects.create(name=f"Soaked {uuid.uuid4()}")


def raise_error() -> None:
    raise PermissionDenied("intended")


def exit_process() -> None:
    raise SystemExit(3)


def recurse() -> None:
    recurse()


def violate_unique() -> None:
    author = write()
    for _ in range(2):
        Book.objects.create(title="One", slug="soaked", author=author, year=2000, price=1, stock=1)


def swallow_violation() -> None:
    """Continue in a transaction that the database has aborted."""
    try:
        violate_unique()
    except Exception:  # noqa: BLE001 - simulates careless code
        write()


def violate_foreign_key() -> None:
    """Violate a constraint that most databases check only at the commit."""
    order = Order.objects.create(email="soaked@shop.invalid")
    OrderLine.objects.create(order=order, book_id=987654321, quantity=1, price=1)


def commit() -> None:
    with connection.cursor() as cursor:
        cursor.execute("COMMIT")


def change_autocommit() -> None:
    transaction.set_autocommit(True)


def close_connection() -> None:
    connection.close()
    write()


def lose_connection() -> None:
    """Simulate a connection that an administrator terminates or that the network loses."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        elif connection.vendor == "mysql":
            cursor.execute("KILL CONNECTION_ID()")
        else:
            connections["default"].connection.interrupt()
            raise_error()


def sleep() -> None:
    time.sleep(HANGS_FOR)


def wait_for_socket() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        client.settimeout(HANGS_FOR)
        client.recv(1)


def busy_loop() -> None:
    until = time.monotonic() + HANGS_FOR
    while time.monotonic() < until:
        pass


def long_statement() -> None:
    """Execute a statement that takes a minute unless it is cancelled."""
    statements = {
        "postgresql": "SELECT pg_sleep(60)",
        "mysql": "SELECT SLEEP(60)",
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 1000000000) SELECT max(i) FROM n",
    }
    with connection.cursor() as cursor:
        cursor.execute(statements[connection.vendor])


FAULTS: tuple[Callable[[], None], ...] = (
    raise_error,
    exit_process,
    recurse,
    violate_unique,
    swallow_violation,
    violate_foreign_key,
    commit,
    change_autocommit,
    close_connection,
    lose_connection,
)
HANGS: tuple[Callable[[], None], ...] = (sleep, wait_for_socket, busy_loop, long_statement)
ACTIONS = {action.__name__: action for action in (*FAULTS, *HANGS)}
HANG_NAMES = frozenset(hang.__name__ for hang in HANGS)


class FaultTest(SmokeTest):
    """Uses a class fixture, so that a lost connection affects several tests."""

    databases = {"default"}  # noqa: RUF012 - typical user code

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.author = write()

    def test_fault(self) -> None:
        write()
        if now in ACTIONS and now not in HANG_NAMES:
            ACTIONS[now]()

    def test_rows_of_the_fault_are_gone(self) -> None:
        """Only the row of the class fixture exists."""
        self.assertEqual(Author.objects.filter(name__startswith="Soaked").count(), 1)  # noqa: PT009


class HangTest(SmokeTest):
    databases = {"default"}  # noqa: RUF012
    timeout = TIMEOUT

    def test_hang(self) -> None:
        if now not in HANG_NAMES:
            raise unittest.SkipTest("no hang is selected")
        write()
        ACTIONS[now]()
