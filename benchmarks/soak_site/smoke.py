"""Smoke tests that pass, until `now` names what they are to do instead."""

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

#: Seconds that a test may take which is asked to hang, and for how long it hangs.
TIMEOUT = 0.05
HANGS_FOR = 0.3

#: What the next run is to do; empty for a run in which everything is well.
now = ""


def write() -> Author:
    return Author.objects.create(name=f"Soaked {uuid.uuid4()}")


def raise_error() -> None:
    raise PermissionDenied("as asked")


def exit_process() -> None:
    raise SystemExit(3)


def recurse() -> None:
    recurse()


def violate_unique() -> None:
    author = write()
    for _ in range(2):
        Book.objects.create(title="One", slug="soaked", author=author, year=2000, price=1, stock=1)


def swallow_violation() -> None:
    """Go on in a transaction that the database has given up."""
    try:
        violate_unique()
    except Exception:  # noqa: BLE001 - as careless code does
        write()


def violate_foreign_key() -> None:
    """Write what could never be committed: most databases say so at the commit alone."""
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
    """As when an administrator ends it, or the network is cut."""
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
    """A statement that takes a minute, if nothing ends it."""
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
DEEDS = {deed.__name__: deed for deed in (*FAULTS, *HANGS)}
HANG_NAMES = frozenset(hang.__name__ for hang in HANGS)


class FaultTest(SmokeTest):
    """Has a class fixture, so that a lost connection costs more than one test."""

    databases = {"default"}  # noqa: RUF012 - as users of unittest write it

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.author = write()

    def test_fault(self) -> None:
        write()
        if now in DEEDS and now not in HANG_NAMES:
            DEEDS[now]()

    def test_rows_of_the_fault_are_gone(self) -> None:
        """Only what the class fixture wrote is there."""
        self.assertEqual(Author.objects.filter(name__startswith="Soaked").count(), 1)  # noqa: PT009


class HangTest(SmokeTest):
    databases = {"default"}  # noqa: RUF012
    timeout = TIMEOUT

    def test_hang(self) -> None:
        if now not in HANG_NAMES:
            raise unittest.SkipTest("it is not asked to hang")
        write()
        DEEDS[now]()
