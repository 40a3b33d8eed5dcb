"""The threads that smoke tests run on: what is so on each of them, while it lives."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from django.core.cache import caches

from smoketest.isolation import ThreadIsolation, Waiting

#: Seconds. Threads that all compute lose about a fifteenth to the changes.
INTERVAL = 0.0005

_lock = threading.Lock()
_threads = 0
_usual = 0.0


@contextmanager
def isolated_thread(waiting: Waiting = nullcontext) -> Iterator[ThreadIsolation]:
    """Around all that a thread of tests does; leaves no connection open."""
    with _frequent_turns(), ThreadIsolation(waiting) as isolation:
        try:
            yield isolation
        finally:
            with suppress(Exception):
                caches.close_all()


@contextmanager
def _frequent_turns() -> Iterator[None]:
    """Threads take turns more often: one that computes delays the others less.

    Whoever wants the interpreter lock of a thread that computes waits for one switch interval,
    5 ms by default, and does so again after each input, output or lock. A page with forty of these
    takes a fifth of a second more, and so does the answer to a time-out
    (https://docs.python.org/3/library/sys.html#sys.setswitchinterval). The last thread restores the
    interval of the process.
    """
    global _threads, _usual  # noqa: PLW0603 - the interval is one for the process
    with _lock:
        if not _threads:
            _usual = sys.getswitchinterval()
            _switch_every(min(_usual, INTERVAL))
        _threads += 1
    try:
        yield
    finally:
        with _lock:
            _threads -= 1
            if not _threads:
                _switch_every(_usual)


def _switch_every(interval: float) -> None:
    # It is cut off to whole microseconds, and would be one less each time.
    sys.setswitchinterval(interval + 5e-7)
