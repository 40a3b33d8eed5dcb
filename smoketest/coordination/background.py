"""Background runs, started by a scrape when they are due, so that no scheduler is needed.

A process that ends, for example a recycled worker, finishes its run first. Otherwise no run would
ever complete if each worker handles only a few requests.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - see `_finish_at_exit`
import logging
import sys
import threading
from contextlib import suppress
from contextvars import Context
from functools import cache
from time import monotonic
from typing import Any, cast

from django.db import connections

from smoketest.coordination.coordinator import GRACE, Coordinator

logger = logging.getLogger("smoketest")

#: Maximum number of seconds that an ending process waits for its run.
MAX_EXIT_WAIT = 25.0

_starting = threading.Lock()
_run: _BackgroundRun | None = None


class _BackgroundRun(threading.Thread):
    """The thread of a run.

    It is a daemon thread, so that an ending process waits for it no longer than `finish`.
    """

    def __init__(self, coordinator: Coordinator, interval: float) -> None:
        super().__init__(name="smoketest-background", daemon=True)
        self._coordinator = coordinator
        self._interval = interval
        self._deadline = monotonic() + coordinator.options.run_timeout + GRACE

    def run(self) -> None:
        try:
            self._coordinator.run_if_due(self._interval)
        except Exception:
            logger.exception("A background run of the smoke tests ended with an error.")
        finally:
            connections.close_all()  # receivers of run_finished may have opened connections

    def finish(self) -> None:
        """Wait for the end of the run, until its deadline at most. A signal ends the wait."""
        with suppress(KeyboardInterrupt, SystemExit):
            self.join(min(MAX_EXIT_WAIT, max(0.0, self._deadline - monotonic())))


def start(coordinator: Coordinator, interval: float) -> None:
    """Start a run in a background thread, and return without waiting for it.

    The thread runs the tests if a run is still due when it holds the run lock. `interval` is the
    number of seconds between full runs. If the process ends before the run, the databases roll back
    the transactions, the run lock is released, and a later scrape starts another run.
    """
    global _run  # noqa: PLW0603 - one per process
    if not _has_background_threads():
        _log_missing_threads()
        return
    with _starting:
        if _run is not None and _run.is_alive():
            return
        _finish_at_exit()
        _run = _BackgroundRun(coordinator, interval)
        try:
            # Without the context of the scrape, so that the run is not part of its trace.
            Context().run(_run.start)
        except RuntimeError:  # the limit of threads is reached; a later scrape tries again
            logger.exception("Could not start a background run of the smoke tests.")


def _has_background_threads() -> bool:
    """Return whether threads of this process run between requests.

    uWSGI without ``--enable-threads`` holds the interpreter lock between requests.
    """
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))


@cache
def _log_missing_threads() -> None:
    logger.error(
        "Scrapes cannot start runs of the smoke tests, because uWSGI runs without threads. Start"
        " uWSGI with --enable-threads."
    )


@cache
def _finish_at_exit() -> None:
    """Make the end of the process wait for its run.

    `threading` calls its hooks last in, first out. That of `concurrent.futures`, which stops the
    executors of `async` tests, must therefore be registered before. Hooks of `atexit` come later.
    """
    threading_module: Any = threading
    getattr(threading_module, "_register_atexit", atexit.register)(_finish)
    if uwsgi := cast("Any", sys.modules.get("uwsgi")):
        # With --skip-atexit-teardown, uWSGI calls only this hook.
        hook_of_site = getattr(uwsgi, "atexit", None)

        def finish_and_call_hook_of_site() -> None:
            _finish()
            if hook_of_site is not None:
                hook_of_site()

        uwsgi.atexit = finish_and_call_hook_of_site


def _finish() -> None:
    if _run is not None and _run.is_alive():
        logger.info("Waiting for the end of a run of the smoke tests before the process ends.")
        _run.finish()
