"""What a test of each suite does, whoever runs it."""

import os
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import connection

from bench_site.models import Row

#: Seconds that a test waits.
WAIT = 0.1
#: Seconds that the suite of the crowd takes.
CROWD = 0.2
#: Seconds for which a test hangs: longer than anybody waits.
HANG = 600.0


def trivial() -> None:
    """Pass."""


def insert_by_cursor() -> None:
    """One INSERT, by a cursor of Django."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_site_row (name) VALUES (%s)", ["a name"])


def insert_by_model() -> None:
    """One INSERT, by a model."""
    Row.objects.create(name="a name")


def wait() -> None:
    """Wait for something that is no database."""
    time.sleep(WAIT)


def read_and_wait() -> None:
    """Read, and wait for something else."""
    Row.objects.count()
    time.sleep(WAIT)


def crowd() -> None:
    """Note in a file that all processes share when a run began and when it ended."""
    _note("begin")
    time.sleep(CROWD)
    _note("end")


def hang() -> None:
    """Wait for something that does not come."""
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


def deed() -> Callable[[], None]:
    """What a test of the site does."""
    return SUITES[settings.SUITE]


def test_classes(base: type, module: str) -> Iterator[type]:
    """Classes with test methods, that together have as many tests as the site wants."""
    do = deed()

    def test(_: object) -> None:
        do()

    per_class = -(-settings.TESTS // settings.CLASSES)
    for first in range(0, settings.TESTS, per_class):
        numbers = range(first, min(first + per_class, settings.TESTS))
        methods = {f"test_{number:04d}": test for number in numbers}
        yield type(f"Group{first:04d}Test", (base,), {**methods, "__module__": module})
