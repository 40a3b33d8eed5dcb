"""Smoke tests that hang, each in its own way, while their name is in the file ``hanging``."""

import ctypes
import os
import socket
import time
import unittest
from pathlib import Path

from django.conf import settings
from django.db import connection

from catalog.models import Author
from smoketest import SmokeTest, options
from tests.e2e.promises import HANGS_FOR, MARKS_FOR, TIMEOUT


def is_asked_to(what: str) -> bool:
    """Whether the test process has created the file."""
    return Path(settings.DATA_DIR, what).exists()


def began(what: str) -> None:
    """Create the file that the test process waits for."""
    Path(settings.DATA_DIR, f"began-{what}").touch()


#: A shell command that ends when no test is asked to hang any more, or after ten minutes.
WAIT_IN_SHELL = """\
cd '{folder}' || exit
touch began-hold_the_interpreter
n=0
while [ -e hanging-hold_the_interpreter ] && [ $n -lt 6000 ]; do
    sleep 0.1
    n=$((n + 1))
done
"""


class HangTest(SmokeTest):
    """Writes a row and hangs."""

    timeout = TIMEOUT
    databases = {"default"}

    def setUp(self) -> None:
        name = self._testMethodName.removeprefix("test_")
        if not is_asked_to(f"hanging-{name}"):
            raise unittest.SkipTest("it is not asked to hang")
        if name not in {"busy_loop", "hold_the_interpreter"}:  # these note it themselves
            began(name)
        Author.objects.create(name=f"Hanging in {name}")

    def test_sleep(self) -> None:
        """In Python's own sleep."""
        time.sleep(HANGS_FOR)

    def test_silent_socket(self) -> None:
        """At a server that accepts connections and never answers."""
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            client.settimeout(HANGS_FOR)
            client.recv(1)

    @options(timeout=2 * TIMEOUT)  # room for setUp, without whose end it does not hang
    def test_busy_loop(self) -> None:
        """In Python code that never waits."""
        began("busy_loop")
        until = time.monotonic() + HANGS_FOR
        while time.monotonic() < until and is_asked_to("hanging-busy_loop"):
            for _ in range(100_000):
                pass

    @options(timeout=2 * TIMEOUT)
    def test_hold_the_interpreter(self) -> None:
        """In C code that does not release the interpreter lock."""
        command = WAIT_IN_SHELL.format(folder=settings.DATA_DIR)
        ctypes.PyDLL(None).system(command.encode())

    def test_statement(self) -> None:
        """In a statement of the database."""
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_sleep(%s)", [HANGS_FOR])
            elif connection.vendor == "mysql":
                cursor.execute("SELECT SLEEP(%s)", [HANGS_FOR])
            else:
                cursor.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                    " WHERE i < 100000000) SELECT max(i) FROM n"
                )


class StayTest(SmokeTest):
    """Keeps a run in progress for as long as the test process wants it."""

    databases = ()

    @options(timeout=240)
    def test_stay(self) -> None:
        """Passes when it may end; the deadline of the run may come first."""
        if not is_asked_to("staying"):
            raise unittest.SkipTest("it is not asked to stay")
        began("staying")
        until = time.monotonic() + HANGS_FOR  # for a thread that is abandoned
        while is_asked_to("staying") and time.monotonic() < until:
            time.sleep(0.01)


class MarkTest(SmokeTest):
    """Leaves a mark where it begins and where it ends, while it is asked to."""

    databases = ()

    def test_mark(self) -> None:
        """Two of these at a time would be two runs."""
        if not MARKS_FOR:
            raise unittest.SkipTest("it is not asked to leave marks")
        mark("begin")
        time.sleep(MARKS_FOR)
        mark("end")


def mark(what: str) -> None:
    """Append one line, whole, whoever else does so."""
    line = f"{what} {os.getpid()}\n"
    descriptor = os.open(Path(settings.DATA_DIR, "marks"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
