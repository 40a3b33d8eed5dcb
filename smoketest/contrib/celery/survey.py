"""Query the workers of the site and their queues, once for all tests of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from smoketest.contrib.celery.broker import BrokerError, Replies, broadcast, connected

#: Queue names by worker name.
Workers = Mapping[str, Collection[str]]

#: Seconds for which replies are reused: by the tests of a run, but not by the next run.
CACHE_SECONDS = 3.0
#: Maximum time in seconds that a test waits for the query of another test.
MAX_WAIT = 10.0


class Survey:
    """Queries the workers of an app for the queues that they consume from."""

    def __init__(self, app: Any, queues: Collection[str], reply_timeout: float) -> None:
        self._app = app
        self._queues = frozenset(queues)
        self._reply_timeout = reply_timeout
        self._lock = threading.Lock()
        self._queried_at = float("-inf")
        self._workers: Workers = {}
        self._error = ""

    def workers(self) -> Workers:
        """Return the workers that reply. Raises `BrokerError` and `NoRemoteControlError`."""
        if not self._lock.acquire(timeout=MAX_WAIT):
            raise BrokerError("Another test is still waiting for a reply of the broker.")
        try:
            if time.monotonic() - self._queried_at > CACHE_SECONDS:
                self._query()
            if self._error:
                raise BrokerError(self._error)
            return self._workers
        finally:
            self._lock.release()

    def _query(self) -> None:
        self._error = ""
        try:
            with connected(self._app) as connection:
                replies = broadcast(
                    self._app,
                    connection,
                    "active_queues",
                    within=self._reply_timeout,
                    is_complete=lambda replies: self._queues <= _all_queues(_workers(replies)),
                )
            self._workers = _workers(replies)
        except BrokerError as error:
            self._error = str(error)
        self._queried_at = time.monotonic()


def _workers(replies: Replies) -> Workers:
    """Return the queues by worker; a reply other than a list is an error message."""
    return {
        name: frozenset(queue["name"] for queue in reply)
        for name, reply in replies.items()
        if isinstance(reply, list)
    }


def _all_queues(workers: Workers) -> frozenset[str]:
    return frozenset().union(*workers.values())
