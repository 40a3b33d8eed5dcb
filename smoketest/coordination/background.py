"""Background runs, started by a scrape when they are due, so that no scheduler is needed."""

from __future__ import annotations

import logging
import sys
import threading
from functools import cache

from django.db import connections

from smoketest.coordination.coordinator import Coordinator

logger = logging.getLogger("smoketest")

_starting = threading.Lock()
_thread: threading.Thread | None = None


def start(coordinator: Coordinator, interval: float) -> None:
    """Start a run in a background thread, and return without waiting for it.

    The thread runs the tests if a run is still due when it holds the run lock. `interval` is the
    number of seconds between full runs. As a daemon thread, it lets a worker process exit during
    the run. The databases then roll back the transactions, the run lock is released, and a later
    scrape starts another run.
    """
    global _thread  # noqa: PLW0603 - one per process
    if not _has_background_threads():
        _log_missing_threads()
        return
    with _starting:
        if _thread is not None and _thread.is_alive():
            return
        _thread = threading.Thread(
            target=_run, args=(coordinator, interval), name="smoketest-background", daemon=True
        )
        try:
            _thread.start()
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


def _run(coordinator: Coordinator, interval: float) -> None:
    try:
        coordinator.run_if_due(interval)
    except Exception:
        logger.exception("A background run of the smoke tests ended with an error.")
    finally:
        connections.close_all()  # receivers of run_finished may have opened connections
