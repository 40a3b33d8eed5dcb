"""Runs that nobody waits for: a scrape starts one when it is due, so that none has to be
scheduled.
"""

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


def start_if_due(coordinator: Coordinator, interval: float) -> None:
    """Start a run on a thread of its own if one is due; returns at once.

    The thread is a daemon: a worker that ends does not wait for it. The run's transactions are
    rolled back by the databases then, its lock is released, and the next scrape sees to another.
    """
    global _thread  # noqa: PLW0603 - one a process
    if not coordinator.is_due(interval):
        return
    if not _threads_run():
        _complain_once()
        return
    with _starting:
        if _thread is not None and _thread.is_alive():
            return
        _thread = threading.Thread(
            target=_run, args=(coordinator, interval), name="smoketest-background", daemon=True
        )
        try:
            _thread.start()
        except RuntimeError:  # no more threads; a later scrape tries again
            logger.exception("A background run of the smoke tests could not be started.")


def _threads_run() -> bool:
    """Whether a thread of this process goes on while there is no request.

    uWSGI keeps the interpreter lock between requests, unless threads are enabled.
    """
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))


@cache
def _complain_once() -> None:
    logger.error(
        "Scrapes start no runs of the smoke tests: this uWSGI lets no thread run between requests."
        " Start it with --enable-threads."
    )


def _run(coordinator: Coordinator, interval: float) -> None:
    try:
        coordinator.run_if_due(interval)
    except Exception:
        logger.exception("A background run of the smoke tests ended with an error.")
    finally:
        connections.close_all()  # receivers of the signal may have opened some
