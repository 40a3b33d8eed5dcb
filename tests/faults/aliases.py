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

CLOSED = "Closing the connection rolls back its changes, and the next test has a new one."
FORBIDDEN = "Django refuses to end the transaction, as in an atomic block."
ISOLATED = "A test can only use isolated connections."
LIMITED = "A test can only use the databases that it declares."
UNAVAILABLE = "An unavailable database affects only the tests that use it."
OTHER_THREADS = "Isolation applies only to the thread of the test."

_NOT_DETECTED = Expected("not detected", ("passed",), is_kept=True)


@fault(CLOSED, passes("passed", "passed"))
class Close(SmokeTest):
    """Closes its connection."""

    def test_1(self) -> None:
        write()
        connection.close()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(CLOSED, passes("passed", "passed"))
class CloseAll(SmokeTest):
    """Closes all connections."""

    def test_1(self) -> None:
        write()
        connections.close_all()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(CLOSED, fails("new connection"))
def close_and_continue() -> None:
    """Closes its connection, and continues to write."""
    write()
    connection.close()
    write("after")


@fault(CLOSED, passes())
def close_old(test: SmokeTest) -> None:
    """Calls `close_old_connections()`, as at the end of a request."""
    write()
    close_old_connections()
    test.assertEqual(Account.objects.count(), 3)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def set_autocommit() -> None:
    """Enables autocommit with Django."""
    write()
    transaction.set_autocommit(True)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def set_autocommit_off() -> None:
    """Disables autocommit with Django, before its first statement."""
    transaction.set_autocommit(False)


@fault(FORBIDDEN, fails("atomic", word="refused"))
def django_commit() -> None:
    """Commits with Django."""
    write()
    transaction.commit()


@fault(FORBIDDEN, fails("atomic", word="refused"))
def django_rollback() -> None:
    """Rolls back with Django's connection."""
    write()
    connection.rollback()


@fault(ISOLATED, refused())
def copy() -> None:
    """Copies the connection, and writes with the copy."""
    own = connection.copy()
    with own.cursor() as cursor:
        cursor.execute("INSERT INTO ledger_account (name) VALUES ('by a copy')")


@fault(ISOLATED, refused())
def new_connection() -> None:
    """Requests a new driver connection from Django."""
    write()
    connection.get_new_connection(connection.get_connection_params())


@fault(ISOLATED, passes("passed", "passed"))
class Reconnect(SmokeTest):
    """Closes the connection, connects again, and writes."""

    def test_1(self) -> None:
        connection.close()
        connection.connect()
        write()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)


@fault(OTHER_THREADS, _NOT_DETECTED)
def own_thread() -> None:
    """Starts a thread that writes with the ORM."""

    def work() -> None:
        try:
            write("by a thread")
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@fault(ISOLATED, refused())
def own_connection() -> None:
    """Creates another Django connection to the site's database, and writes with it."""
    own = connections.create_connection("default")
    try:
        with own.cursor() as cursor:
            cursor.execute("INSERT INTO ledger_account (name) VALUES ('by its own')")
    finally:
        own.close()


@fault(ISOLATED, refused())
def deleted_connection() -> None:
    """Deletes its connection from `connections`, and writes with a new one."""
    isolated = connections["default"]
    del connections["default"]
    try:
        write()
    finally:
        connections["default"].close()
        connections["default"] = isolated


@fault(OTHER_THREADS, passes("passed", "passed"))
class SyncToAsync(SmokeTest):
    """Writes in an async test with sync_to_async, which uses the thread of the test."""

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
    """Uses a database although its class declares none."""

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
    UNAVAILABLE,
    sqlite=fails("unable to open", **_DOWN),
    postgresql=fails("connection", **_DOWN),
    mariadb=fails("connect", **_DOWN),
)
class Down(SmokeTest):
    """Uses a database whose server is not running, or whose file does not exist."""

    def test_1(self) -> None:
        sql("SELECT 1", "down")

    def test_2(self) -> None:
        write()

    def test_3(self) -> None:
        write(alias="other")


@fault(
    UNAVAILABLE,
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


# Servers that close connections

LOST = "A lost connection affects only the test that uses it."


def _kill_backend(test: Any) -> None:
    backend = test.backend
    if connection.vendor == "postgresql":
        ((pid,),) = sql("SELECT pg_backend_pid()")
        backend.execute(f"SELECT pg_terminate_backend({pid})")
    else:
        ((thread,),) = sql("SELECT CONNECTION_ID()")
        backend.execute(f"KILL {thread}")


_LOST = fails("connection", outcomes=("errored", "passed"))


@fault(LOST, postgresql=_LOST, mariadb=fails(outcomes=("errored", "passed")))
class BackendKilled(SmokeTest):
    """Continues after an administrator has terminated its connection."""

    def test_1(self) -> None:
        write()
        _kill_backend(self)
        write("after")

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(LOST, postgresql=passes("passed", "passed"), mariadb=passes("passed", "passed"))
class BackendKilledAtEnd(SmokeTest):
    """An administrator terminates its connection after its last statement."""

    def test_1(self) -> None:
        write()
        _kill_backend(self)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(LOST, postgresql=passes("passed", "passed"), mariadb=passes("passed", "passed"))
class ServerRestarted(SmokeTest):
    """The server is restarted between two tests of a class."""

    def test_1(self) -> None:
        write()

    def test_2(self) -> None:
        self.backend.restart()  # type: ignore[attr-defined]
        write()


@fault(
    LOST,
    postgresql=fails(outcomes=("errored", "passed")),
    mariadb=fails(outcomes=("errored", "passed")),
)
class ServerRestartedDuringTest(SmokeTest):
    """The server is restarted during a test that has written."""

    def test_1(self) -> None:
        write()
        self.backend.restart()  # type: ignore[attr-defined]
        write("after")

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()
