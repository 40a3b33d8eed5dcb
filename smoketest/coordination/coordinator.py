"""Who runs the tests, who waits for whom, and whom a stored result answers.

One run at a time on a host. Those who ask meanwhile wait for it, but no more than a few, so that
the endpoint never occupies all workers of a site; the rest get the latest stored result.
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
from smoketest.runner.options import RunOptions
from smoketest.runner.supervisor import AbandonedTests, RunInterrupted
from smoketest.signals import run_finished
from smoketest.store import Pause, ResultsStore, Status, StoreError
from smoketest.store.locks import Lock

logger = logging.getLogger("smoketest")
#: Tells of each test that did not pass; whoever shows the report itself need not hear it.
problem_logger = logging.getLogger("smoketest.problems")

#: Seconds for which a run may outlast its deadline before those who wait for it give up.
GRACE = 5.0
RETRY_AFTER = 2
#: Part of the interval after which the next run is due.
DUE_AFTER = 0.9
EVERYTHING = Selection()
#: A stored result may be this many seconds ahead of the clock, no more: then the clock was set.
CLOCK_TOLERANCE = 1.0


class NothingSelectedError(Exception):
    """The site has no smoke test, or none that the selection, or one part of it, matches."""

    def __init__(self, unknown: Sequence[Unknown] = ()) -> None:
        super().__init__()
        #: What is at fault, if it is a name or a tag.
        self.unknown = unknown


class NotStoredError(Exception):
    """Only a stored result was asked for, and there is none that will do."""


class PausedError(Exception):
    """The runs are paused, and nothing is stored that could answer instead."""

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self.pause = pause


class BusyError(Exception):
    """Enough others wait for a run already, and no stored result will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How fresh an answer has to be, as in section 5.2.1 of RFC 9111."""

    #: Seconds; None leaves it to the site.
    max_age: float | None = None
    #: Whether only a run will do that begins after this was asked.
    no_cache: bool = False
    #: Whether nothing may be run for the answer.
    only_if_cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A report and how many seconds ago it was finished: 0 if it was made for this answer."""

    report: Report
    age: float
    #: Set while an operator has paused the runs; the report is the latest one, however old.
    pause: Pause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Answers with a report, from the store or from a run; one for each process."""

    options: RunOptions
    store: ResultsStore
    abandoned: AbandonedTests
    #: Held by whoever runs.
    run_lock: Lock
    #: Held by those who wait for the run lock; there are as many as may wait.
    waiting_locks: Sequence[Lock]
    #: How many seconds old an answer may be if nothing else is asked.
    max_age: float
    #: Unix time at which this process had loaded the code of the site. No result from before
    #: says anything of that code.
    code_loaded_at: float
    #: What nobody may be shown, asked for at the beginning of each run.
    secrets: Callable[[], Collection[str]] = tuple

    def answer(
        self,
        selection: Selection,
        freshness: Freshness,
        *,
        failfast: bool = False,
        listener: Listener = ignore_events,
    ) -> Answer:
        """A report that is fresh enough, or the best that there is when too many ask at once.

        The listener is told of a run that begins for the answer. Raises `NothingSelectedError`,
        `NotStoredError`, `BusyError` or `PausedError`.
        """
        asked_at = time()
        if pause := self._pause():
            return self._answer_paused(selection, pause, failfast)
        max_age = self.max_age if freshness.max_age is None else freshness.max_age
        stored = None if freshness.no_cache else self._stored(selection, failfast)
        if stored and (freshness.only_if_cached and freshness.max_age is None):
            return stored
        if stored and stored.age <= max_age:
            return stored
        if freshness.only_if_cached:
            raise NotStoredError
        # Whoever asks for what is not there does not wait, and most of a crowd want what is stored.
        suite = None if stored else self._find(selection)
        with self._hold_run_lock(listener, self._queue_for_run_lock) as is_ours:
            if is_ours:
                suite = suite or self._find(selection)
                return self._answer_with_run_lock(
                    suite, selection, freshness, asked_at, failfast, listener
                )
        # Too many wait already.
        if stored and freshness.max_age is None:
            return stored
        raise BusyError

    def run(
        self,
        selection: Selection,
        *,
        wait: float,
        within: float = math.inf,
        failfast: bool = False,
        respect_every: bool = False,
        record: bool = True,
        listener: Listener = ignore_events,
    ) -> Answer:
        """Run the tests and record the report, unless `record` is false.

        With `respect_every`, those whose ``every`` has not passed are left alone. Raises
        `NothingSelectedError`, also where a single name or tag of the selection matches nothing,
        `PausedError`, `RunInterrupted`, or `BusyError` if the run that is going
        on has not ended after `wait` seconds; then nothing was recorded. Waiting and running take
        `within` seconds at most.
        """
        asked_at = monotonic()
        if pause := self._pause():
            return self._answer_paused(selection, pause, failfast)
        suite = self._find_each(selection)
        with self._hold_run_lock(listener, lambda: self.run_lock.acquire(wait)) as is_ours:
            if not is_ours:
                raise BusyError
            carried = self._not_due(suite) if respect_every else {}
            if record:
                self._begin_if_full(selection)
            left = max(0.001, within - (monotonic() - asked_at))
            run_timeout = min(self.options.run_timeout, left)
            run = replace(self, options=replace(self.options, run_timeout=run_timeout))._run
            report = run(
                suite,
                selection,
                carried=carried,
                failfast=failfast,
                record=record,
                listener=listener,
            )
            return Answer(report=report, age=0.0)

    def find(self, selection: Selection) -> Suite:
        """The selected tests, without secrets. Raises `NothingSelectedError` as `run` does."""
        return Redactor(self.secrets()).suite(self._find_each(selection))

    def is_due(self, interval: float) -> bool:
        """Whether a full run should begin by itself that is expected every `interval` seconds."""
        return is_due(self._status(), interval, is_shared=self.store.is_shared)

    def run_if_due(self, interval: float) -> None:
        """Run all tests, unless that is not due or another process does so."""
        with self.run_lock.held() as is_ours:
            if is_ours and self.is_due(interval):
                suite = loader.find(EVERYTHING, self.options)
                # What cannot be noted would be due again at the next scrape, and at each after it.
                if not suite.is_empty and self._begin():
                    self._run(suite, EVERYTHING, carried=self._not_due(suite), failfast=False)

    def _answer_with_run_lock(
        self,
        suite: Suite,
        selection: Selection,
        freshness: Freshness,
        asked_at: float,
        failfast: bool,
        listener: Listener,
    ) -> Answer:
        """Whoever held the lock before may have made the report that we wait for."""
        stored = self._stored(selection, failfast)
        if stored:
            moment = stored.report.started_at if freshness.no_cache else stored.report.finished_at
            if moment >= asked_at:
                return stored
        insists = freshness.no_cache or bool(selection.names)
        carried = {} if insists else self._not_due(suite)
        self._begin_if_full(selection)
        report = self._run(suite, selection, carried=carried, failfast=failfast, listener=listener)
        return Answer(report=report, age=0.0)

    def _answer_paused(self, selection: Selection, pause: Pause, failfast: bool) -> Answer:
        stored = self._stored(selection, failfast, of_any_code=True)
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

    def _find_each(self, selection: Selection) -> Suite:
        """As `_find`, but each name and tag of the selection has to match."""
        suite = self._find(selection)
        # What is missing may be in a module that cannot be imported, of which the run tells.
        if not suite.collection_errors and (unknown := self._unknown(selection)):
            raise NothingSelectedError(unknown)
        return suite

    def _unknown(self, selection: Selection) -> list[Unknown]:
        if not (selection.names or selection.tags):
            return []
        return find_unknown(selection, loader.find(EVERYTHING, self.options).declarations)

    def _stored(
        self, selection: Selection, failfast: bool, *, of_any_code: bool = False
    ) -> Answer | None:
        """The latest report of this code that covers the selection, if the clock can be trusted."""
        try:
            report = self.store.latest_report(selection, failfast=failfast)
        except StoreError as error:
            _log_store_error(error)
            return None
        if report is None or not report.results:
            return None
        if report.started_at < self.code_loaded_at and not of_any_code:
            return None
        age = time() - report.finished_at
        return Answer(report=report, age=max(0.0, age)) if age >= -CLOCK_TOLERANCE else None

    def _not_due(self, suite: Suite) -> Mapping[str, Result]:
        """The latest results of the tests whose ``every`` has not passed."""
        if not any(declaration.every for declaration in suite.declarations):
            return {}
        try:
            latest = self.store.latest_results()
        except StoreError as error:
            _log_store_error(error)
            return {}
        now = time()
        return {
            declaration.id: replace(result, declaration=declaration)
            for declaration in suite.declarations
            if (result := latest.get(declaration.id))
            and result.outcome.is_conclusive
            and -CLOCK_TOLERANCE <= now - result.started_at < declaration.every
        }

    def _run(
        self,
        suite: Suite,
        selection: Selection,
        *,
        carried: Mapping[str, Result],
        failfast: bool,
        record: bool = True,
        listener: Listener = ignore_events,
    ) -> Report:
        redactor = Redactor(self.secrets())

        def tell(event: Event) -> None:
            if isinstance(event, Finished) and listener is not ignore_events:
                event = Finished(redactor.result(event.result))
            listener(event)

        try:
            report = supervisor.run(
                suite,
                selection,
                self.options,
                abandoned=self.abandoned,
                carried=carried,
                failfast=failfast,
                listener=tell,
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
                # A warning, so that handlers that mail the admins on errors leave it alone.
                problem_logger.warning("%s %s: %s", result.id, result.outcome, result.message)
        run_finished.send_robust(sender=Coordinator, report=report)
        return report

    def _record(self, report: Report) -> None:
        try:
            self.store.record(report)
        except StoreError as error:
            _log_store_error(error)

    def _begin_if_full(self, selection: Selection) -> None:
        if selection.is_everything:
            self._begin()

    def _begin(self) -> bool:
        """Note that a run of all tests begins; gives whether that could be noted."""
        try:
            lost = self.store.begin(time())
        except StoreError as error:
            _log_store_error(error)
            return False
        if lost is not None:
            logger.warning("The run that began at %s ended with its process.", utc(lost))
        return True

    @contextmanager
    def _hold_run_lock(
        self, listener: Listener, wait: Callable[[], Callable[[], None] | None]
    ) -> Iterator[bool]:
        """Hold the run lock, by waiting if another has it; gives whether it is held."""
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
        """Wait for the run lock, if not too many do so already."""
        for place in self.waiting_locks:
            with place.held() as is_ours:
                if is_ours:
                    return self.run_lock.acquire(self.options.run_timeout + GRACE)
        return None


def is_due(status: Status | None, interval: float, *, is_shared: bool) -> bool:
    """Whether a full run should begin by itself that is expected every `interval` seconds.

    A little early: with scrapes as far apart as the runs, one that came just before a run was due
    would otherwise make the runs half as frequent. Without a shared store each process would run
    for itself, so nothing is ever due.
    """
    if status is None or not is_shared or status.pause:
        return False
    if status.last_attempt_at is None:
        return True
    elapsed = time() - status.last_attempt_at
    return elapsed >= DUE_AFTER * interval or elapsed < -CLOCK_TOLERANCE


def _log_store_error(error: StoreError) -> None:
    """The answer is given all the same."""
    logger.error("The results store failed. %s", error)
