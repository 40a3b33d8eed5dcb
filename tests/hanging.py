"""Functions that hang until the test releases them, and a clock that the test advances."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic  # bound at import, because a smoke test may patch the module

#: Seconds after which `hang` returns even if it was not released. A run that waits for hanging code
#: takes at least as long.
HANG = 60.0

#: `begun` is set when a function begins to hang; setting `released` lets it return.
begun, released = threading.Event(), threading.Event()

#: Names of the threads in which `hang` or `hang_while` has returned.
returned: list[str] = []


def reset() -> None:
    """Clear the events and `returned` before a test."""
    begun.clear()
    released.clear()
    returned.clear()


def hang() -> None:
    """Block in a single call that no other thread can interrupt."""
    begun.set()
    released.wait(HANG)
    returned.append(threading.current_thread().name)


def hang_while(doing: Callable[[], object]) -> None:
    """Block in a loop that calls `doing`."""
    begun.set()
    until = monotonic() + HANG
    while not released.is_set() and monotonic() < until:
        doing()
    returned.append(threading.current_thread().name)


def assert_hanging() -> None:
    """Assert that no call of `hang` or `hang_while` has returned."""
    assert not released.is_set()
    assert returned == []


class Clock:
    """A monotonic clock that a test can advance."""

    def __init__(self) -> None:
        self._offset = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return monotonic() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._offset += seconds
