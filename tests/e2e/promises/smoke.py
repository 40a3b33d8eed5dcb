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
from smoketest import SmokeTest
from tests.e2e.promises import HANGS_FOR, HOLDS_FOR, MARKS_FOR, SLEEPS_FOR, TIMEOUT


class HangTest(SmokeTest):
    """Writes a row and hangs."""

    timeout = TIMEOUT
    databases = {"default"}

    def setUp(self) -> None:
        hanging = Path(settings.DATA_DIR, "hanging")
        name = self._testMethodName.removeprefix("test_")
        if not hanging.exists() or name not in hanging.read_text().split():
            raise unittest.SkipTest("it is not asked to hang")
        Author.objects.create(name=f"Hanging in {name}")

    def test_sleep(self) -> None:
        """In Python's own sleep."""
        time.sleep(SLEEPS_FOR)

    def test_silent_socket(self) -> None:
        """At a server that accepts connections and never answers."""
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            client.settimeout(HANGS_FOR)
            client.recv(1)

    def test_busy_loop(self) -> None:
        """In Python code that never waits."""
        until = time.monotonic() + HANGS_FOR
        while time.monotonic() < until:
            pass

    def test_hold_the_interpreter(self) -> None:
        """In C code that does not release the interpreter lock."""
        ctypes.PyDLL(None).usleep(int(HOLDS_FOR * 1e6))

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
