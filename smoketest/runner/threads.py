"""The environment of a thread that runs smoke tests: isolation and a short switch interval."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from django.core.cache import caches

from smoketest.isolation import ThreadIsolation, Waiting

#: Switch interval in seconds. CPU-bound threads lose about 7 % to the additional switches.
SWITCH_INTERVAL = 0.0005

_lock = threading.Lock()
_threads = 0
_original_interval = 0.0


@contextmanager
def isolated_thread(waiting: Waiting = nullcontext) -> Iterator[ThreadIsolation]:
    """Isolate the calling thread, and close its database and cache connections at the end."""
    with _short_switch_interval(), ThreadIsolation(waiting) as isolation:
        try:
            yield isolation
        finally:
            with suppress(Exception):
                caches.close_all()


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Shorten the switch interval of the process while smoke tests run.

    A CPU-bound thread keeps the interpreter lock for one switch interval, 5 ms by default, and the
    other threads wait for it after each I/O operation or lock. A request with forty of these would
    take 0.2 s longer, and so would the report of a timeout. The last thread restores the interval
    (https://docs.python.org/3/library/sys.html#sys.setswitchinterval).
    """
    global _threads, _original_interval  # noqa: PLW0603 - the interval applies to the process
    with _lock:
        if not _threads:
            _original_interval = sys.getswitchinterval()
            _set_switch_interval(min(_original_interval, SWITCH_INTERVAL))
        _threads += 1
    try:
        yield
    finally:
        with _lock:
            _threads -= 1
            if not _threads:
                _set_switch_interval(_original_interval)


def _set_switch_interval(interval: float) -> None:
    # The interpreter truncates to microseconds; without rounding, it would shrink each time.
    sys.setswitchinterval(interval + 5e-7)
