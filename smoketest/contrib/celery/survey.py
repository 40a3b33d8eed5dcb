"""Who answers: the workers of the site and their queues, asked once for all tests of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from smoketest.contrib.celery.broker import BrokerError, Replies, ask, connected

#: Names of queues by names of workers.
Workers = Mapping[str, Collection[str]]

#: Seconds for which an answer holds: tests that begin together share it, later runs do not.
SHARED_FOR = 3.0
#: Seconds that a test waits for another one's answer.
LONGEST_WAIT = 10.0


class Survey:
    """Asks the workers of an app which queues they take tasks from."""

    def __init__(self, app: Any, queues: Collection[str], reply_timeout: float) -> None:
        self._app = app
        self._queues = frozenset(queues)
        self._reply_timeout = reply_timeout
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._workers: Workers = {}
        self._error = ""

    def workers(self) -> Workers:
        """Those that answered a moment ago. Raises `BrokerError` and `NoRemoteControlError`."""
        if not self._lock.acquire(timeout=LONGEST_WAIT):
            raise BrokerError("Another test still waits for an answer of the broker.")
        try:
            if time.monotonic() - self._asked_at > SHARED_FOR:
                self._ask()
            if self._error:
                raise BrokerError(self._error)
            return self._workers
        finally:
            self._lock.release()

    def _ask(self) -> None:
        self._error = ""
        try:
            with connected(self._app) as connection:
                replies = ask(
                    self._app,
                    connection,
                    "active_queues",
                    within=self._reply_timeout,
                    is_enough=lambda replies: self._queues <= _all_queues(_workers(replies)),
                )
            self._workers = _workers(replies)
        except BrokerError as error:
            self._error = str(error)
        self._asked_at = time.monotonic()


def _workers(replies: Replies) -> Workers:
    """An answer that is no list is an error of the worker's."""
    return {
        name: frozenset(queue["name"] for queue in reply)
        for name, reply in replies.items()
        if isinstance(reply, list)
    }


def _all_queues(workers: Workers) -> frozenset[str]:
    return frozenset().union(*workers.values())
