"""Test classes for the queues of Celery and for beat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from smoketest.case import SmokeTest
from smoketest.contrib.celery.broker import BrokerError, NoRemoteControlError, connected
from smoketest.contrib.celery.conf import CeleryConf, conf
from smoketest.contrib.celery.names import ENTRY, HEARTBEAT
from smoketest.contrib.celery.records import load, save
from smoketest.contrib.celery.rounds import (
    RoundTrip,
    UnknownToWorkersError,
    make_round_trip,
    query_notes,
)
from smoketest.contrib.celery.survey import Survey

INSTALL = (
    'have not loaded the smoketest task: add "smoketest.contrib.celery" to their INSTALLED_APPS,'
    " call app.autodiscover_tasks(), and restart them"
)


class CeleryTest(SmokeTest):
    """Base class of the tests of a queue and of beat."""

    app: ClassVar[Any]
    survey: ClassVar[Survey]
    databases = ()
    timeout = 15
    slow_after = 5
    tags = frozenset({"celery"})

    @contextmanager
    def _handle_broker_errors(self) -> Iterator[None]:
        """Fail or skip the test if the broker or remote control is not available."""
        if self.app.conf.task_always_eager:
            self.skipTest("task_always_eager is True: no worker is used")
        try:
            yield
        except BrokerError as error:
            raise self.failureException(str(error)) from None
        except NoRemoteControlError as error:
            self.skipTest(str(error))

    def _workers_of(self, queue: str) -> list[str]:
        workers = self.survey.workers()
        return sorted(name for name, queues in workers.items() if queue in queues)

    def _make_round_trip(self, queue: str, workers: list[str], name: str) -> RoundTrip:
        try:
            return make_round_trip(
                self.app,
                queue,
                workers,
                name,
                valid=conf.max_latency,
                within=conf.reply_timeout,
            )
        except UnknownToWorkersError:
            raise self.failureException(f"The workers of the queue {queue!r} {INSTALL}.") from None


class QueueTest(CeleryTest):
    """Tests of one queue."""

    queue: ClassVar[str]

    def test_worker_answers(self) -> None:
        """A Celery worker that consumes from this queue replies, even while it is busy."""
        with self._handle_broker_errors():
            if self._workers_of(self.queue):
                return
            others = self.survey.workers()
        start = f"Start one: celery -A ... worker -Q {self.queue}."
        if others:
            self.fail(
                f"No worker consumes from the queue {self.queue!r}. Workers that replied consume"
                f" from other queues: {_format(others)}. {start}"
            )
        self.fail(
            f"No worker replied within {conf.reply_timeout:g} s, so none is known to consume from"
            f" the queue {self.queue!r}. {start} If workers are running, check their logs and their"
            " broker URL; a worker with -P solo replies only between tasks."
        )

    def test_task_goes_round(self) -> None:
        """A worker runs a task from this queue within SMOKETEST_CELERY_MAX_LATENCY."""
        with self._handle_broker_errors():
            workers = self._workers_of(self.queue)
            if not workers:
                self.skipTest("no worker replied (see test_worker_answers), so no task was sent")
            trip = self._make_round_trip(self.queue, workers, f"queue {self.queue}")
        if trip.is_back:
            return
        if trip.waiting > conf.max_latency:
            self.fail(
                f"No task from the queue {self.queue!r} has been run for {trip.waiting:.0f} s, but"
                f" {', '.join(workers)} replied: the workers are busy or stuck. See what they are"
                " doing with celery -A ... inspect active. If they are busy, start more workers or"
                f" raise {CeleryConf.max_latency.name}, which is {conf.max_latency:g} s."
            )
        if not trip.has_been_back:
            self.skipTest(
                f"no task has returned yet; one has been waiting for {trip.waiting:.0f} s of"
                f" {conf.max_latency:g} s"
            )


class BeatTest(CeleryTest):
    """Test of beat, which sends a heartbeat task to the default queue."""

    def test_beat_is_alive(self) -> None:
        """Celery beat sends the tasks in its schedule."""
        queue = self.app.conf.task_default_queue
        with self._handle_broker_errors():
            workers = self._workers_of(queue)
            if not workers:
                self.skipTest(f"no worker of the queue {queue!r} replied")
            last_heartbeat, known_since = self._get_last_heartbeat(workers, queue)
            silence = time.time() - max(last_heartbeat, known_since)
            if silence <= conf.beat_max_age:
                if last_heartbeat < known_since:
                    self.skipTest(
                        f"no heartbeat since the workers started {silence:.0f} s ago; beat has"
                        f" {conf.beat_max_age:g} s"
                    )
                return
            # A task that returns shows that no earlier heartbeat is still waiting in the queue.
            if not self._make_round_trip(queue, workers, "beat").is_back:
                self.skipTest(f"the queue {queue!r} is behind: it may contain a heartbeat of beat")
        self.fail(
            f"Beat has sent nothing for {silence:.0f} s, but {ENTRY!r} is due every"
            f" {conf.beat_interval:g} s. Is celery -A ... beat running, with"
            ' "smoketest.contrib.celery" in its INSTALLED_APPS? Check its log.'
        )

    def _get_last_heartbeat(self, workers: list[str], queue: str) -> tuple[float, float]:
        """Return the time of the last heartbeat, or 0, and the start of the oldest worker."""
        try:
            with connected(self.app) as connection:
                replies = query_notes(
                    self.app, connection, workers, [HEARTBEAT], conf.reply_timeout
                )
        except UnknownToWorkersError:
            raise self.failureException(f"The workers of the queue {queue!r} {INSTALL}.") from None
        now, record = time.time(), load("heartbeat")
        if record.returned_at > now:  # the clock of this host was ahead
            record = replace(record, returned_at=0.0)
        ages = [reply["ages"][HEARTBEAT] for reply in replies if HEARTBEAT in reply["ages"]]
        last_heartbeat = max([record.returned_at, *(now - age for age in ages)])
        # A later run needs it if the worker that ran the task has stopped by then.
        save("heartbeat", replace(record, returned_at=last_heartbeat, looked_at=now))
        return last_heartbeat, now - max((reply["uptime"] for reply in replies), default=0.0)


def _format(workers: Any) -> str:
    return "; ".join(
        f"{name} from {', '.join(sorted(queues))}" for name, queues in sorted(workers.items())
    )
