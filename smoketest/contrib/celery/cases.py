"""What is tested of each queue, and of beat."""

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
    Round,
    UnknownToWorkersError,
    ask_notes,
    send_round,
)
from smoketest.contrib.celery.survey import Survey

INSTALL = (
    'its workers do not know smoketest\'s task: have "smoketest.contrib.celery" in their'
    " INSTALLED_APPS and call app.autodiscover_tasks(), then restart them"
)


class CeleryTest(SmokeTest):
    """What both have in common."""

    app: ClassVar[Any]
    survey: ClassVar[Survey]
    databases = ()
    timeout = 15
    slow_after = 5
    tags = frozenset({"celery"})

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """What hinders the talk to the workers is told as it is."""
        if self.app.conf.task_always_eager:
            self.skipTest("task_always_eager is True: tasks run where they are called")
        try:
            yield
        except BrokerError as error:
            raise self.failureException(str(error)) from None
        except NoRemoteControlError as error:
            self.skipTest(str(error))

    def _workers_of(self, queue: str) -> list[str]:
        workers = self.survey.workers()
        return sorted(name for name, queues in workers.items() if queue in queues)

    def _round(self, queue: str, workers: list[str], name: str) -> Round:
        try:
            return send_round(
                self.app,
                queue,
                workers,
                name,
                valid=conf.max_latency,
                within=conf.reply_timeout,
            )
        except UnknownToWorkersError:
            raise self.failureException(f"Of the queue {queue!r}, {INSTALL}.") from None


class QueueTest(CeleryTest):
    """One queue; `queue` says which."""

    queue: ClassVar[str]

    def test_worker_answers(self) -> None:
        """A Celery worker that takes tasks from this queue answers, however busy it is."""
        with self._talking():
            if self._workers_of(self.queue):
                return
            others = self.survey.workers()
        start = f"Start one: celery -A ... worker -Q {self.queue}."
        if others:
            self.fail(
                f"No worker takes tasks from the queue {self.queue!r}. Those that answer take them"
                f" from others: {_list(others)}. {start}"
            )
        self.fail(
            f"No worker has answered within {conf.reply_timeout:g} s, and none takes tasks from the"
            f" queue {self.queue!r}. {start} If some run, look at their log, and whether they have"
            " this broker; a worker with -P solo answers between tasks alone."
        )

    def test_task_goes_round(self) -> None:
        """A task that is put into this queue is run by a worker, if not at once then in time."""
        with self._talking():
            workers = self._workers_of(self.queue)
            if not workers:
                self.skipTest("no worker has answered, as test_worker_answers says; none is sent")
            went = self._round(self.queue, workers, f"queue {self.queue}")
        if went.is_back:
            return
        if went.waiting > conf.max_latency:
            self.fail(
                f"No task that was put into the queue {self.queue!r} has been run for"
                f" {went.waiting:.0f} s, though {', '.join(workers)} answer: they are busy, or"
                " stuck. Look at what they do: celery -A ... inspect active. If they are just busy,"
                f" start more workers, or raise {CeleryConf.max_latency.name}"
                f" ({conf.max_latency:g})."
            )
        if not went.has_been_back:
            self.skipTest(
                f"no task has come back yet; one has been under way for {went.waiting:.0f} s, and"
                f" has {conf.max_latency:g} s"
            )


class BeatTest(CeleryTest):
    """Beat, by what it sends to the default queue."""

    def test_beat_is_alive(self) -> None:
        """Celery beat sends what is in its schedule, when it is due."""
        queue = self.app.conf.task_default_queue
        with self._talking():
            workers = self._workers_of(queue)
            if not workers:
                self.skipTest(f"no worker of the queue {queue!r} has answered, who would know")
            heard_at, known_since = self._heard(workers, queue)
            silence = time.time() - max(heard_at, known_since)
            if silence <= conf.beat_max_age:
                if heard_at < known_since:
                    self.skipTest(
                        f"nothing was heard of beat since the workers started, {silence:.0f} s ago;"
                        f" it has {conf.beat_max_age:g} s"
                    )
                return
            # What was sent after all that beat sent is back: nothing of beat's is in the queue.
            if not self._round(queue, workers, "beat").is_back:
                self.skipTest(
                    f"the queue {queue!r} is behind: what beat has sent may be waiting in it"
                )
        self.fail(
            f"Beat has sent nothing for {silence:.0f} s, though {ENTRY!r} is due every"
            f" {conf.beat_interval:g} s. Is celery -A ... beat running, with"
            ' "smoketest.contrib.celery" in its INSTALLED_APPS? Look at its log.'
        )

    def _heard(self, workers: list[str], queue: str) -> tuple[float, float]:
        """When beat's task was last run, 0 if never; and since when the workers would know."""
        try:
            with connected(self.app) as connection:
                replies = ask_notes(self.app, connection, workers, [HEARTBEAT], conf.reply_timeout)
        except UnknownToWorkersError:
            raise self.failureException(f"Of the queue {queue!r}, {INSTALL}.") from None
        now, record = time.time(), load("heartbeat")
        if record.returned_at > now:  # this host's clock was ahead when it was written
            record = replace(record, returned_at=0.0)
        ages = [reply["ages"][HEARTBEAT] for reply in replies if HEARTBEAT in reply["ages"]]
        heard_at = max([record.returned_at, *(now - age for age in ages)])
        # What another worker ran that is gone since, an earlier run may have heard of.
        save("heartbeat", replace(record, returned_at=heard_at, looked_at=now))
        return heard_at, now - max((reply["uptime"] for reply in replies), default=0.0)


def _list(workers: Any) -> str:
    return "; ".join(
        f"{name} from {', '.join(sorted(queues))}" for name, queues in sorted(workers.items())
    )
