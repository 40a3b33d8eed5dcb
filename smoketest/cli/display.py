"""Shows a run while it goes on: a line for each test, or what a terminal can do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from smoketest.results import (
    Event,
    Finished,
    Listener,
    Outcome,
    Result,
    Started,
    Waiting,
    ignore_events,
)

#: Writes a line of that kind.
WriteLine = Callable[[str, Result | None], None]

WAITING = "Another run goes on; waiting for it."


def nothing() -> AbstractContextManager[Listener]:
    """For those who want to hear of the end alone."""
    return nullcontext(ignore_events)


def lines(write: WriteLine) -> AbstractContextManager[Listener]:
    """A line for each test that has its result."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            match event:
                case Waiting():
                    write(WAITING, None)
                case Started(test_ids):
                    tests = "test" if len(test_ids) == 1 else "tests"
                    write(f"Running {len(test_ids)} {tests}.", None)
                case Finished(result):
                    write(line(result), result)
                case _:
                    pass

    return nullcontext(tell)


def line(result: Result) -> str:
    """``failed   shop.smoke.OrderTest.test_it (0.123 s): the message``, in one line."""
    words = f"{result.outcome.replace('_', ' '):<9} {result.id}"
    if result.outcome not in {Outcome.SKIPPED, Outcome.NOT_RUN}:
        words += f" ({result.duration:.3f} s)"
    if result.is_problem and not result.is_critical:
        words += " [warning]"
    message = " ".join(result.message.split())
    return f"{words}: {message}" if message else words
