"""Connections, threads and database aliases."""

from __future__ import annotations

import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection, connections, transaction

from smoketest import SmokeTest
from tests.faults.fault import (
    SHORT,
    Expected,
    fails,
    fault,
    passes,
    refused,
    sql,
    times_out,
    write,
)
from tests.ledger.models import Account

GONE = "Closing the connection rolls back its changes, and the next test has a new one."
FORBIDDEN = "Django refuses to end the transaction, as in an atomic block."
OWN = "A test can only use isolated connections."
LIMITED = "A test can only use the databases that it declares."
ALONE = "An unavailable database affects only the tests that use it."
BY_NATURE = "Isolation applies only to the thread of the test."

_ESCAPES = Expected("escapes", ("passed",), is_kept=True)


@fault(GONE, passes("passed", "passed"))
class Close(SmokeTest):
    """Closes its connection."""

    def test_1(self) -> None:
        write()
        connection.close()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(GONE, passes("passed", "passed"))
class CloseAll(SmokeTest):
    """Closes all connections."""

    def test_1(self) -> None:
        write()
        connections.close_all()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(GONE, fails("new connection"))
def close_and_go_on() -> None:
    """Closes its connection, and continues to write."""
    write()
    connection.close()
    write("after")


@fault(GONE, passes())
def close_old(test: SmokeTest) -> None:
    """Lets Django close old connections, as at the end of a request."""
    write()
    close_old_connections()
    test.assertEqual(Account.objects.count(), 3)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def set_autocommit() -> None:
    """Turns autocommit on by Django."""
    write()
    transaction.set_autocommit(True)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def set_autocommit_off() -> None:
    """Turns autocommit off by Django, before its first statement."""
    transaction.set_autocommit(False)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def django_commit() -> None:
    """Commits by Django."""
    write()
    transaction.commit()


@fault(FORBIDDEN, fails("atomic", word="refused"))
def django_rollback() -> None:
    """Rolls back by Django's connection."""
    write()
    connection.rollback()


@fault(OWN, refused())
def copy() -> None:
    """Makes a copy of the connection, and writes by it."""
    own = connection.copy()
    with own.cursor() as cursor:
        cursor.execute("INSERT INTO ledger_account (name) VALUES ('by a copy')")


@fault(OWN, refused())
def new_connection() -> None:
    """Asks Django for a new connection of the driver."""
    write()
    connection.get_new_connection(connection.get_connection_params())


@fault(OWN, passes("passed", "passed"))
class Reconnect(SmokeTest):
    """Closes the connection, connects again, and writes."""

    def test_1(self) -> None:
        connection.close()
        connection.connect()
        write()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)


@fault(BY_NATURE, _ESCAPES)
def thread_of_its_own() -> None:
    """Starts a thread that writes by the ORM."""

    def work() -> None:
        try:
            write("by a thread")
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@fault(OWN, refused())
def connection_of_its_own() -> None:
    """Has Django make another connection of the site, and writes by it."""
    own = connections.create_connection("default")
    try:
        with own.cursor() as cursor:
            cursor.execute("INSERT INTO ledger_account (name) VALUES ('by its own')")
    finally:
        own.close()


@fault(OWN, refused())
def connection_thrown_away() -> None:
    """Throws its connection away, so that Django makes another, and writes by that."""
    isolated = connections["default"]
    del connections["default"]
    try:
        write()
    finally:
        connections["default"].close()
        connections["default"] = isolated


@fault(BY_NATURE, passes("passed", "passed"))
class SyncToAsync(SmokeTest):
    """Writes in an async test by sync_to_async, which keeps to the thread of the test."""

    async def test_1(self) -> None:
        await sync_to_async(write)()
        self.assertEqual(await sync_to_async(Account.objects.count)(), 3)

    test_2 = test_1


@fault(LIMITED, refused("may not use", alias="other"))
class Limited(SmokeTest):
    """Uses a database that its class does not declare."""

    databases = {"default"}

    def test_it(self) -> None:
        write()
        write(alias="other")


@fault(LIMITED, refused("may not use"))
class LimitedToNone(SmokeTest):
    """Uses a database where its class declares none."""

    databases = ()

    def test_it(self) -> None:
        write()


@fault(LIMITED, fails("nowhere"))
class UnknownAlias(SmokeTest):
    """Declares a database that the site does not have."""

    databases = {"nowhere"}

    def test_it(self) -> None:
        write()


@fault(LIMITED, fails("nowhere"))
def unknown_alias_used() -> None:
    """Uses a database that the site does not have."""
    write(alias="nowhere")


_DOWN: dict[str, Any] = {
    "outcomes": ("errored", "passed", "passed"),
    "word": "errored, others not affected",
}


@fault(
    ALONE,
    sqlite=fails("unable to open", **_DOWN),
    postgresql=fails("connection", **_DOWN),
    mariadb=fails("connect", **_DOWN),
)
class Down(SmokeTest):
    """Uses a database whose server does not run, or whose file is missing."""

    def test_1(self) -> None:
        sql("SELECT 1", "down")

    def test_2(self) -> None:
        write()

    def test_3(self) -> None:
        write(alias="other")


@fault(
    ALONE,
    postgresql=times_out("passed", "passed"),
    mariadb=times_out("passed", "passed"),
    timeout=SHORT,
)
class Silent(SmokeTest):
    """Uses a database whose server accepts connections and does not respond."""

    def test_1(self) -> None:
        write()
        sql("SELECT 1", "silent")

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()

    def test_3(self) -> None:
        write(alias="other")


# Servers that lose their clients

LOST = "A lost connection affects only the test that uses it."


def _kill_backend(test: Any) -> None:
    place = test.place
    if connection.vendor == "postgresql":
        ((pid,),) = sql("SELECT pg_backend_pid()")
        place.execute(f"SELECT pg_terminate_backend({pid})")
    else:
        ((thread,),) = sql("SELECT CONNECTION_ID()")
        place.execute(f"KILL {thread}")


_LOST = fails("connection", outcomes=("errored", "passed"))


@fault(LOST, postgresql=_LOST, mariadb=fails(outcomes=("errored", "passed")))
class BackendKilled(SmokeTest):
    """An administrator terminates its connection, and it continues."""

    def test_1(self) -> None:
        write()
        _kill_backend(self)
        write("after")

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(LOST, postgresql=passes("passed", "passed"), mariadb=passes("passed", "passed"))
class BackendKilledAtTheEnd(SmokeTest):
    """An administrator terminates its connection after its last statement."""

    def test_1(self) -> None:
        write()
        _kill_backend(self)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(LOST, postgresql=passes("passed", "passed"), mariadb=passes("passed", "passed"))
class ServerRestarted(SmokeTest):
    """The server is stopped and started between two tests of a class."""

    def test_1(self) -> None:
        write()

    def test_2(self) -> None:
        self.place.restart()  # type: ignore[attr-defined]
        write()


@fault(
    LOST,
    postgresql=fails(outcomes=("errored", "passed")),
    mariadb=fails(outcomes=("errored", "passed")),
)
class ServerRestartedInMidTest(SmokeTest):
    """The server is stopped and started in the middle of a test that has written."""

    def test_1(self) -> None:
        write()
        self.place.restart()  # type: ignore[attr-defined]
        write("after")

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()
