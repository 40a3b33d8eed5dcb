"""Smoke tests that hang in different ways while a file ``hanging-<name>`` exists."""

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
from tests.e2e.misbehaving import MARK_SECONDS, MAX_HANG, TIMEOUT


def is_requested(what: str) -> bool:
    """Return whether the test process has created the file."""
    return Path(settings.DATA_DIR, what).exists()


def mark_started(what: str) -> None:
    """Create the file that the test process waits for."""
    Path(settings.DATA_DIR, f"started-{what}").touch()


#: Shell command that ends when the file is removed, or after ten minutes.
WAIT_IN_SHELL = """\
cd '{folder}' || exit
touch started-hold_the_interpreter
n=0
while [ -e hanging-hold_the_interpreter ] && [ $n -lt 6000 ]; do
    sleep 0.1
    n=$((n + 1))
done
"""


class HangTest(SmokeTest):
    """Tests that write a row and hang."""

    timeout = TIMEOUT
    databases = {"default"}

    def setUp(self) -> None:
        name = self._testMethodName.removeprefix("test_")
        if not is_requested(f"hanging-{name}"):
            raise unittest.SkipTest("not requested to hang")
        if name not in {"busy_loop", "hold_the_interpreter"}:  # these create it themselves
            mark_started(name)
        Author.objects.create(name=f"Hanging in {name}")

    def test_sleep(self) -> None:
        """Hang in `time.sleep()`."""
        time.sleep(MAX_HANG)

    def test_silent_socket(self) -> None:
        """Hang while reading from a server that never responds."""
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            client.settimeout(MAX_HANG)
            client.recv(1)

    @options(timeout=2 * TIMEOUT)  # must include the time of setUp
    def test_busy_loop(self) -> None:
        """Hang in a Python loop."""
        mark_started("busy_loop")
        until = time.monotonic() + MAX_HANG
        while time.monotonic() < until and is_requested("hanging-busy_loop"):
            for _ in range(100_000):
                pass

    @options(timeout=2 * TIMEOUT)
    def test_hold_the_interpreter(self) -> None:
        """Hang in C code that does not release the GIL."""
        command = WAIT_IN_SHELL.format(folder=settings.DATA_DIR)
        ctypes.PyDLL(None).system(command.encode())

    def test_statement(self) -> None:
        """Hang in a database query."""
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_sleep(%s)", [MAX_HANG])
            elif connection.vendor == "mysql":
                cursor.execute("SELECT SLEEP(%s)", [MAX_HANG])
            else:
                cursor.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                    " WHERE i < 100000000) SELECT max(i) FROM n"
                )


class BlockTest(SmokeTest):
    """Test that blocks for as long as the test process requests."""

    databases = ()

    @options(timeout=240)
    def test_block(self) -> None:
        """Return on request, or end with the deadline of the run."""
        if not is_requested("blocking"):
            raise unittest.SkipTest("not requested to block")
        mark_started("blocking")
        until = time.monotonic() + MAX_HANG  # ends abandoned threads
        while is_requested("blocking") and time.monotonic() < until:
            time.sleep(0.01)


class MarkTest(SmokeTest):
    """Test that writes a mark when it starts and when it ends."""

    databases = ()

    def test_mark(self) -> None:
        """Two start marks without an end mark between them mean two concurrent runs."""
        if not MARK_SECONDS:
            raise unittest.SkipTest("marks are disabled")
        mark("begin")
        time.sleep(MARK_SECONDS)
        mark("end")


def mark(what: str) -> None:
    """Append a line atomically, as other processes may write at the same time."""
    line = f"{what} {os.getpid()}\n"
    descriptor = os.open(Path(settings.DATA_DIR, "marks"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
