"""The action of a test, by suite."""

import os
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import connection

from bench_site.models import Row

#: Duration of a waiting test, in seconds.
WAIT = 0.1
#: Duration of the suite of the crowd, in seconds.
CROWD = 0.2
#: Duration of a hang in seconds; longer than all timeouts.
HANG = 600.0


def trivial() -> None:
    """Do nothing."""


def insert_by_cursor() -> None:
    """Insert a row with a cursor."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_site_row (name) VALUES (%s)", ["a name"])


def insert_by_model() -> None:
    """Insert a row with a model."""
    Row.objects.create(name="a name")


def wait() -> None:
    """Wait, without a database."""
    time.sleep(WAIT)


def read_and_wait() -> None:
    """Read from the database, and wait."""
    Row.objects.count()
    time.sleep(WAIT)


def crowd() -> None:
    """Write the times of start and end to a file that all processes share."""
    _note("begin")
    time.sleep(CROWD)
    _note("end")


def hang() -> None:
    """Hang."""
    time.sleep(HANG)


def _note(what: str) -> None:
    descriptor = os.open(settings.FOLDER / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{time.time()} {what}\n".encode())
    os.close(descriptor)


SUITES: dict[str, Callable[[], None]] = {
    suite.__name__: suite
    for suite in (
        trivial, insert_by_cursor, insert_by_model, wait, read_and_wait, crowd, hang,
    )
}  # fmt: skip


def get_action() -> Callable[[], None]:
    """Return the action of the configured suite."""
    return SUITES[settings.SUITE]


def test_classes(base: type, module: str) -> Iterator[type]:
    """Yield classes with test methods, for the configured numbers of classes and tests."""
    action = get_action()

    def test(_: object) -> None:
        action()

    per_class = -(-settings.TESTS // settings.CLASSES)
    for first in range(0, settings.TESTS, per_class):
        numbers = range(first, min(first + per_class, settings.TESTS))
        methods = {f"test_{number:04d}": test for number in numbers}
        yield type(f"Group{first:04d}Test", (base,), {**methods, "__module__": module})
