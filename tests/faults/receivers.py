"""Receivers of `connection_created`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created

from smoketest import SmokeTest
from tests.faults.backends import Backend
from tests.faults.fault import fails, fault, passes, sql, write
from tests.ledger.models import Account

NOT_KEPT = "Writes by receivers of connection_created are refused."
SESSION = "Receivers of connection_created may change settings of the session."

INSERT = "INSERT INTO ledger_account (name) VALUES ('by a receiver')"
REFUSED = fails("receiver of connection_created", word="refused")


@contextmanager
def receiving(
    receive: Callable[[Any], None], _: Backend, *, by_class: bool = False
) -> Iterator[None]:
    """Call `receive` with each new connection, or with those of the site's class."""

    def receiver(connection: Any, **_: object) -> None:
        receive(connection)

    sender = type(connections["default"]) if by_class else None
    connection_created.connect(receiver, sender=sender)
    try:
        yield
    finally:
        connection_created.disconnect(receiver, sender=sender)


def insert(created: Any) -> None:
    """Insert a row with a cursor of Django."""
    with created.cursor() as cursor:
        cursor.execute(INSERT)


def insert_in_atomic(created: Any) -> None:
    """Insert a row in an atomic block, as the ORM does."""
    with transaction.atomic(using=created.alias, durable=True):
        insert(created)


def insert_by_driver(created: Any) -> None:
    """Insert a row with a cursor of the driver."""
    created.connection.cursor().execute(INSERT)


def insert_after_commit(created: Any) -> None:
    """Commit, and insert a row."""
    created.connection.cursor().execute("COMMIT")
    insert(created)


def change_session(created: Any) -> None:
    """Set the options that `assert_session` finds."""
    statement = {
        "sqlite": "PRAGMA cache_size = 4321",
        "postgresql": "SET work_mem = '4321kB'",
        "mysql": "SET SESSION sort_buffer_size = 432100",
    }[created.vendor]
    with created.cursor() as cursor:
        cursor.execute(statement)


def assert_session(test: SmokeTest) -> None:
    """Assert that `change_session` is in effect."""
    query, expected = {
        "sqlite": ("PRAGMA cache_size", 4321),
        "postgresql": ("SHOW work_mem", "4321kB"),
        "mysql": ("SELECT @@sort_buffer_size", 432100),
    }[connection.vendor]
    test.assertEqual(sql(query)[0][0], expected)


@fault(NOT_KEPT, REFUSED, context=partial(receiving, insert))
def receiver_inserts() -> None:
    """A receiver inserts a row into each database that is connected to."""
    write()


@fault(NOT_KEPT, REFUSED, context=partial(receiving, insert_in_atomic))
def receiver_inserts_in_atomic() -> None:
    """A receiver inserts a row in an atomic block."""
    write()


@fault(NOT_KEPT, REFUSED, context=partial(receiving, insert_by_driver))
def receiver_inserts_by_driver() -> None:
    """A receiver inserts a row with a cursor of the driver."""
    write()


@fault(NOT_KEPT, REFUSED, context=partial(receiving, insert))
class ReceiverInsertsForReadOnlyTest(SmokeTest):
    """A receiver inserts a row when a class that is read-only connects."""

    read_only = True

    def test_it(self) -> None:
        Account.objects.count()


@fault(
    NOT_KEPT,
    mariadb=REFUSED,
    postgresql=fails("receiver of connection_created", word="errored, rolled back"),
    context=partial(receiving, insert_after_commit),
)
def receiver_commits() -> None:
    """A receiver runs COMMIT, and inserts a row."""
    write()


@fault(NOT_KEPT, REFUSED, context=partial(receiving, insert, by_class=True))
def receiver_of_the_class_inserts() -> None:
    """A receiver that is connected to the site's connection class inserts a row."""
    write()


@fault(
    SESSION,
    passes("passed", "passed"),
    context=partial(receiving, change_session, by_class=True),
)
class ReceiverOfTheClassChangesSession(SmokeTest):
    """A receiver that is connected to the site's connection class changes a setting."""

    def test_1(self) -> None:
        assert_session(self)

    test_2 = test_1


@fault(SESSION, passes("passed", "passed"), context=partial(receiving, change_session))
class ReceiverChangesSession(SmokeTest):
    """A receiver changes a setting, which two tests find."""

    def test_1(self) -> None:
        write()
        assert_session(self)

    test_2 = test_1
