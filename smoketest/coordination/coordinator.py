"""Decide how to answer a request: start a run, wait for the active run, or serve a stored report.

Only one run is active per host. A bounded number of requests may wait for it; the others are served
from the store, so the endpoint never occupies all workers of the site.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic, time

from smoketest.coordination.redaction import Redactor
from smoketest.coordination.suggestions import Unknown, find_unknown
from smoketest.results import (
    Declaration,
    Event,
    Finished,
    Listener,
    Report,
    Result,
    Selection,
    Waiting,
    ignore_events,
    utc,
)
from smoketest.runner import loader, supervisor
from smoketest.runner.discovery import Suite
from smoketest.runner.failures import escape_controls
from smoketest.runner.options import RunOptions
from smoketest.runner.supervisor import AbandonedTests, RunInterrupted
from smoketest.signals import run_finished
from smoketest.store import Pause, ResultsStore, Status, StoreError
from smoketest.store.locks import Lock

logger = logging.getLogger("smoketest")
#: Logs each test that did not pass. It is a separate logger so that a caller that displays the
#: report can silence it.
problem_logger = logging.getLogger("smoketest.problems")
store_logger = logging.getLogger("smoketest.store")

#: Seconds past the deadline of a run after which waiting requests stop waiting for it.
GRACE = 5.0
#: Value of the ``Retry-After`` header, in seconds.
RETRY_AFTER = 2
#: Fraction of the interval after which the next run is due.
DUE_AFTER = 0.9
#: Number of intervals after which the next run is overdue: two more than after which it is due.
OVERDUE_AFTER = 3
#: Maximum number of times that the time until a retry of a failing test is doubled.
MAX_DOUBLINGS = 32
EVERYTHING = Selection()
#: Seconds that a stored result may be ahead of the clock. A larger difference means that the clock
#: was set back, and the result is ignored.
CLOCK_TOLERANCE = 1.0


class NothingSelectedError(Exception):
    """The site has no smoke tests, or a part of the selection matches none of them."""

    def __init__(self, unknown: Sequence[Unknown] = ()) -> None:
        super().__init__()
        #: Names and tags that match no test.
        self.unknown = unknown


class NotStoredError(Exception):
    """The request allows only a stored result, and none is fresh enough."""


class PausedError(Exception):
    """Runs are paused and no result is stored."""

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self.pause = pause


class BusyError(Exception):
    """Another run is active, and no stored result can be used.

    `Coordinator.answer` raises it if too many requests are waiting, `Coordinator.run` if the other
    run did not end in time.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Required freshness of an answer: the request directives of RFC 9111, section 5.2.1."""

    #: Seconds. None applies the ``SMOKETEST_MAX_AGE`` setting.
    max_age: float | None = None
    #: Whether the run must start after the request was received.
    no_cache: bool = False
    #: Whether only a stored report may be returned.
    only_if_cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A report and its age."""

    report: Report
    #: Seconds since the run finished; 0 if the run was started for this answer.
    age: float
    #: Set while runs are paused. The report is then the latest one, regardless of its age.
    pause: Pause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Return reports, from the store or from a new run."""

    options: RunOptions
    store: ResultsStore
    abandoned: AbandonedTests
    #: Held while a run is in progress.
    run_lock: Lock
    #: One for each request that may wait for the run lock; held while it waits.
    waiting_locks: Sequence[Lock]
    #: Default maximum age of an answer, in seconds.
    max_age: float
    #: Unix time at which this process had loaded the code of the site. Results of earlier runs
    #: are ignored, because they may be those of older code.
    code_loaded_at: float
    #: Return the values to redact; called at the start of each run.
    secrets: Callable[[], Collection[str]] = tuple

    def answer(
        self,
        selection: Selection,
        freshness: Freshness,
        *,
        failfast: bool = False,
        interval: float | None = None,
        listener: Listener = ignore_events,
    ) -> Answer:
        """Return a report that is fresh enough, and start a run if none is stored.

        If too many requests are waiting already, return the stored report of any age, unless
        `freshness` sets a maximum age. The `listener` receives the events of a run that this call
        starts. With an `interval`, the seconds between regular runs, that run retries failing tests
        as regular runs do.

        Raise `NothingSelectedError`, `NotStoredError`, `BusyError` or `PausedError`.
        """
        asked_at = time()
        if pause := self._pause():
            return self._answer_paused(selection, pause, failfast)
        stored = None if freshness.no_cache else self._stored_answer(selection, failfast)
        if stored and self.is_fresh(stored.report, freshness):
            return stored
        if freshness.only_if_cached:
            raise NotStoredError
        # Report an unknown name before waiting. Discovery is skipped if the result is stored, since
        # most of many simultaneous requests end up with the stored report.
        suite = None if stored else self._find(selection)
        with self._hold_run_lock(listener, self._queue_for_run_lock) as acquired:
            if acquired:
                suite = suite or self._find(selection)
                return self._answer_with_run_lock(
                    suite, selection, freshness, asked_at, failfast, interval, listener
                )
        # Too many requests are waiting already.
        if stored and freshness.max_age is None:
            return stored
        raise BusyError

    def is_fresh(self, report: Report, freshness: Freshness) -> bool:
        """Return whether the stored report answers a request without a run."""
        if freshness.no_cache or not self._is_usable(report):
            return False
        max_age = freshness.max_age
        if max_age is None:
            max_age = math.inf if freshness.only_if_cached else self.max_age
        return time() - report.finished_at <= max_age

    def run(
        self,
        selection: Selection,
        *,
        wait: float,
        within: float = math.inf,
        failfast: bool = False,
        interval: float | None = None,
        record: bool = True,
        listener: Listener = ignore_events,
    ) -> Answer:
        """Run the tests, and record the report unless `record` is false.

        `wait` is the time to wait for another run, `within` the limit of waiting and running
        together, both in seconds. In regular runs, `interval` is the time between them in seconds;
        tests that are not due according to their ``every`` attribute keep their latest result.

        Raise `NothingSelectedError` if any name or tag of the selection matches no test,
        `PausedError`, `RunInterrupted`, or `BusyError` if the other run has not ended after `wait`
        seconds. After a `BusyError`, nothing was recorded.
        """
        asked_at = monotonic()
        if pause := self._pause():
            return self._answer_paused(selection, pause, failfast)
        suite = self._find_strictly(selection)
        with self._hold_run_lock(listener, lambda: self.run_lock.acquire(wait)) as acquired:
            if not acquired:
                raise BusyError
            not_due = {} if interval is None else self._not_due(suite, interval)
            if record:
                self._record_start_if_full(selection)
            remaining = max(0.001, within - (monotonic() - asked_at))
            run_timeout = min(self.options.run_timeout, remaining)
            run = replace(self, options=replace(self.options, run_timeout=run_timeout))._run
            report = run(
                suite,
                selection,
                not_due=not_due,
                failfast=failfast,
                record=record,
                listener=listener,
            )
            return Answer(report=report, age=0.0)

    def find(self, selection: Selection) -> Suite:
        """Return the selected tests, redacted. Raise `NothingSelectedError` as `run` does."""
        return Redactor(self.secrets()).suite(self._find_strictly(selection))

    def is_due(self, interval: float) -> bool:
        """Return whether the next of the full runs every `interval` seconds is due."""
        return is_due(self._status(), interval, is_shared=self.store.is_shared)

    def run_if_due(self, interval: float) -> None:
        """Run all tests if a full run is due and no other run is active."""
        with self.run_lock.held() as acquired:
            if acquired and self.is_due(interval):
                suite = loader.find(EVERYTHING, self.options)
                # If the start cannot be recorded, every following scrape would start a run.
                if not suite.is_empty and self._record_start():
                    not_due = self._not_due(suite, interval)
                    self._run(suite, EVERYTHING, not_due=not_due, failfast=False)

    def _answer_with_run_lock(
        self,
        suite: Suite,
        selection: Selection,
        freshness: Freshness,
        asked_at: float,
        failfast: bool,
        interval: float | None,
        listener: Listener,
    ) -> Answer:
        """Return the report of the run that was waited for, or start a run if it does not apply."""
        stored = self._stored_answer(selection, failfast)
        if stored:
            report = stored.report
            if (report.started_at if freshness.no_cache else report.finished_at) >= asked_at:
                return stored
        ignores_every = freshness.no_cache or bool(selection.names)
        not_due = {} if ignores_every else self._not_due(suite, interval)
        self._record_start_if_full(selection)
        report = self._run(suite, selection, not_due=not_due, failfast=failfast, listener=listener)
        return Answer(report=report, age=0.0)

    def _answer_paused(self, selection: Selection, pause: Pause, failfast: bool) -> Answer:
        stored = self._stored_answer(selection, failfast, of_any_code=True)
        if stored is None:
            raise PausedError(pause)
        return replace(stored, pause=pause)

    def _status(self) -> Status | None:
        try:
            return self.store.status()
        except StoreError as error:
            _log_store_error(error)
            return None

    def _pause(self) -> Pause | None:
        status = self._status()
        return status.pause if status else None

    def _find(self, selection: Selection) -> Suite:
        suite = loader.find(selection, self.options)
        if suite.is_empty:
            raise NothingSelectedError(self._unknown(selection))
        return suite

    def _find_strictly(self, selection: Selection) -> Suite:
        """Return the selected tests; each name and tag of the selection must match a test."""
        suite = self._find(selection)
        # A missing test may be in a module that cannot be imported. The run reports that error.
        if not suite.collection_errors and (unknown := self._unknown(selection)):
            raise NothingSelectedError(unknown)
        return suite

    def _unknown(self, selection: Selection) -> list[Unknown]:
        if not (selection.names or selection.tags):
            return []
        return find_unknown(selection, loader.find(EVERYTHING, self.options).declarations)

    def _stored_answer(
        self, selection: Selection, failfast: bool, *, of_any_code: bool = False
    ) -> Answer | None:
        """Return the latest report of the current code that covers the selection, or None.

        A report from the future is ignored, because the clock was set back.
        """
        try:
            report = self.store.latest_report(selection, failfast=failfast)
        except StoreError as error:
            _log_store_error(error)
            return None
        if report is None or not self._is_usable(report, of_any_code=of_any_code):
            return None
        return Answer(report=report, age=max(0.0, time() - report.finished_at))

    def _is_usable(self, report: Report, *, of_any_code: bool = False) -> bool:
        if not report.results or not (of_any_code or self._is_of_this_code(report)):
            return False
        return time() - report.finished_at >= -CLOCK_TOLERANCE

    def _is_of_this_code(self, report: Report) -> bool:
        """Return whether the run started after this process loaded its code, or has its release.

        Without a release, a new worker process cannot distinguish results of its own code from
        those of older code.
        """
        release = self.options.release
        is_same_release = release != "" and report.release == release
        return is_same_release or report.started_at >= self.code_loaded_at

    def _not_due(self, suite: Suite, interval: float | None) -> Mapping[str, Result]:
        """Return the latest results of the tests that are not due according to ``every``.

        With an `interval`, the seconds between regular runs, a failing test is retried after 1, 2,
        4, ... intervals, so that a repaired test does not stay failed for long. Requests of clients
        without full access have none, because they could repeat a test that costs money.
        """
        if not any(declaration.every for declaration in suite.declarations):
            return {}
        try:
            latest = self.store.latest_results()
            failures = {} if interval is None else self.store.consecutive_failures()
        except StoreError as error:
            _log_store_error(error)
            return {}
        now = time()

        def seconds_between_runs(declaration: Declaration) -> float:
            count = failures.get(declaration.id, 0)
            if interval is None or count == 0:
                return declaration.every
            # Half an interval less, because the test does not start at the same time in each run.
            return min(declaration.every, interval * (2.0 ** min(count - 1, MAX_DOUBLINGS) - 0.5))

        return {
            declaration.id: replace(result, declaration=declaration)
            for declaration in suite.declarations
            if (result := latest.get(declaration.id))
            and result.outcome.is_conclusive
            and -CLOCK_TOLERANCE <= now - result.started_at < seconds_between_runs(declaration)
        }

    def _run(
        self,
        suite: Suite,
        selection: Selection,
        *,
        not_due: Mapping[str, Result],
        failfast: bool,
        record: bool = True,
        listener: Listener = ignore_events,
    ) -> Report:
        redactor = Redactor(self.secrets())

        def redact_and_forward(event: Event) -> None:
            if isinstance(event, Finished) and listener is not ignore_events:
                event = Finished(redactor.result(event.result))
            listener(event)

        try:
            report = supervisor.run(
                suite,
                selection,
                self.options,
                abandoned=self.abandoned,
                carried=not_due,
                failfast=failfast,
                listener=redact_and_forward,
            )
        except RunInterrupted as interrupt:
            interrupt.report = redactor.report(interrupt.report)
            if record:
                self._record(interrupt.report)
            raise
        report = redactor.report(report)
        if record:
            self._record(report)
        for result in report.problems:
            if not result.carried:
                # A warning, because AdminEmailHandler mails errors.
                message = escape_controls(result.message)
                problem_logger.warning("%s %s: %s", result.id, result.outcome, message)
        run_finished.send_robust(sender=Coordinator, report=report)
        return report

    def _record(self, report: Report) -> None:
        try:
            self.store.record(report)
        except StoreError as error:
            _log_store_error(error)

    def _record_start_if_full(self, selection: Selection) -> None:
        if selection.is_everything:
            self._record_start()

    def _record_start(self) -> bool:
        """Record the start of a full run, and return whether that succeeded."""
        try:
            aborted_at = self.store.begin(time())
        except StoreError as error:
            _log_store_error(error)
            return False
        if aborted_at is not None:
            logger.warning(
                "The run that started at %s was aborted: its process ended.", utc(aborted_at)
            )
        return True

    @contextmanager
    def _hold_run_lock(
        self, listener: Listener, wait: Callable[[], Callable[[], None] | None]
    ) -> Iterator[bool]:
        """Hold the run lock, and yield whether it was acquired.

        `wait` is called if another process or thread holds the lock.
        """
        release = self.run_lock.acquire()
        if release is None:
            listener(Waiting())
            release = wait()
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    def _queue_for_run_lock(self) -> Callable[[], None] | None:
        """Wait for the run lock, unless too many requests are waiting already."""
        for waiting_lock in self.waiting_locks:
            with waiting_lock.held() as acquired:
                if acquired:
                    return self.run_lock.acquire(self.options.run_timeout + GRACE)
        return None


def is_due(status: Status | None, interval: float, *, is_shared: bool) -> bool:
    """Return whether the next of the full runs every `interval` seconds is due.

    A run is due when 90% of the interval has passed. Otherwise, if scrapes are as frequent as runs,
    a scrape just before the end of the interval would halve the frequency of the runs. Without a
    shared store no run is ever due, because each process would run the tests.
    """
    if status is None or not is_shared or status.pause:
        return False
    if status.last_attempt_at is None:
        return True
    elapsed = time() - status.last_attempt_at
    return elapsed >= DUE_AFTER * interval or elapsed < -CLOCK_TOLERANCE


def is_overdue(status: Status, interval: float | None) -> bool:
    """Return whether the next of the full runs should have started two intervals ago."""
    if interval is None or status.pause:
        return False
    if status.last_attempt_at is None:
        return True
    return time() - status.last_attempt_at >= OVERDUE_AFTER * interval


def _log_store_error(error: StoreError) -> None:
    """Log a failure of the store, which does not fail the request."""
    store_logger.error("The results store failed. %s", error)
