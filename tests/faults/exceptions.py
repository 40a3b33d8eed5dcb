"""Exceptions raised after a write."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from smoketest import SmokeTest
from tests.faults.fault import SHORT, Expected, fails, fault, hang, passes, write

GUARANTEE = "Any exception is reported as a result, and the test is rolled back."


class _Custom(BaseException):
    """Exception that no code catches."""


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def _recurse() -> None:
    _recurse()


def _raise(error: BaseException) -> Callable[[], Any]:
    def do() -> None:
        raise error

    return do


def _warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("as an error", UserWarning, stacklevel=1)


def raises(name: str, text: str, act: Callable[[], Any], *in_message: str) -> None:
    """Add a row whose test writes, and then calls `act`."""

    def test_it() -> None:
        write()
        act()

    fault(GUARANTEE, fails(*in_message, word="errored, rolled back"), name=name, text=text)(test_it)


raises("system_exit", "Raises SystemExit.", lambda: sys.exit(3), "3")
raises("keyboard_interrupt", "Raises KeyboardInterrupt.", _raise(KeyboardInterrupt()))
raises("generator_exit", "Raises GeneratorExit.", _raise(GeneratorExit()))
raises("recursion_error", "Recurses endlessly.", _recurse, "recursion")
raises("memory_error", "Runs out of memory.", _raise(MemoryError()))
raises("base_exception", "Raises a custom BaseException.", _raise(_Custom("its own")), "its own")
raises("unprintable", "Raises an exception that cannot be printed.", _raise(_UnprintableError()))
raises("ten_megabytes", "Raises an exception with a message of 10 MB.",
       _raise(ValueError("x" * 10_000_000)), "xxx")  # fmt: skip
raises("warning_as_error", "Turns a warning into an error.", _warn, "as an error")
raises("surrogates", "Raises an exception with text that cannot be encoded.",
       _raise(ValueError("a lone \udcff surrogate")), "a lone")  # fmt: skip
raises("exception_group", "Raises an ExceptionGroup.",
       _raise(ExceptionGroup("two", [ValueError(1), OSError(2)])), "two")  # fmt: skip


@fault(GUARANTEE, passes("skipped", word="skipped, rolled back"))
def skip_after_write(test: SmokeTest) -> None:
    """Skips itself after writing."""
    write()
    test.skipTest("enough")


@fault(GUARANTEE, Expected("failed, rolled back", ("failed",), ("n=1",)))
def failed_subtests(test: SmokeTest) -> None:
    """Writes in subtests, some of which fail."""
    for n in range(3):
        with test.subTest(n=n):
            write(f"subtest {n}")
            test.assertEqual(n, 0)


@fault(GUARANTEE, passes("passed", "passed"))
class DeletesItself(SmokeTest):
    """Deletes its own class and its attributes."""

    def test_1(self) -> None:
        write()
        globals().pop("DeletesItself", None)
        del type(self).backend  # type: ignore[attr-defined]

    def test_2(self) -> None:
        write()


_CLOCK = time.time, time.monotonic, time.sleep, time.perf_counter


@fault(
    GUARANTEE,
    Expected("timed out, freed", ("passed", "timed_out", "passed"), ("timed out after",)),
    timeout=SHORT,
)
class PatchesTime(SmokeTest):
    """Patches the functions of the time module; the next test hangs and times out."""

    def test_1(self) -> None:
        write()
        time.time = time.monotonic = time.perf_counter = lambda: 0.0
        time.sleep = lambda _: None

    def test_2(self) -> None:
        write()
        hang()

    def test_3(self) -> None:
        time.time, time.monotonic, time.sleep, time.perf_counter = _CLOCK
        write()
