"""Who runs the tests, who waits for whom, and whom a stored result answers.

One run at a time on a host. Those who ask meanwhile wait for it, but no more than a few, so that
the endpoint never occupies all workers of a site; the rest get the latest stored result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import time

from smoketest import runner
from smoketest.discovery import Suite
from smoketest.locks import Lock
from smoketest.results import Report, Result
from smoketest.runner import AbandonedTests, RunOptions
from smoketest.selection import Selection
from smoketest.signals import run_finished
from smoketest.store import ResultsStore, StoreError

logger = logging.getLogger("smoketest")

#: Seconds for which a run may outlast its deadline before those who wait for it give up.
GRACE = 5.0
RETRY_AFTER = 2
#: A stored result may be this many seconds ahead of the clock, no more: then the clock was set.
CLOCK_TOLERANCE = 1.0


class NothingSelectedError(Exception):
    """The site has no smoke test, or none that the selection matches."""


class NotStoredError(Exception):
    """Only a stored result was asked for, and there is none that will do."""


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

    def answer(
        self, selection: Selection, freshness: Freshness, *, failfast: bool = False
    ) -> Answer:
        """A report that is fresh enough, or the best that there is when too many ask at once.

        Raises `NothingSelectedError`, `NotStoredError` or `BusyError`.
        """
        asked_at = time()
        max_age = self.max_age if freshness.max_age is None else freshness.max_age
        stored = None if freshness.no_cache else self._stored(selection, failfast)
        if stored and (freshness.only_if_cached and freshness.max_age is None):
            return stored
        if stored and stored.age <= max_age:
            return stored
        if freshness.only_if_cached:
            raise NotStoredError
        suite = self._find(selection)
        with self._turn() as is_ours:
            if is_ours:
                return self._answer_in_turn(suite, selection, freshness, asked_at, failfast)
        # Too many wait already.
        if stored and freshness.max_age is None:
            return stored
        raise BusyError

    def run(
        self,
        selection: Selection,
        *,
        wait: float,
        failfast: bool = False,
    ) -> Report:
        """Run the tests, those whose ``every`` has not passed included, and record the report.

        Raises `NothingSelectedError`, or `BusyError` if the run that is going on has not ended
        after `wait` seconds; then nothing was recorded.
        """
        suite = self._find(selection)
        with self.run_lock.held(wait) as is_ours:
            if not is_ours:
                raise BusyError
            return self._run(suite, selection, carried={}, failfast=failfast)

    def _answer_in_turn(
        self,
        suite: Suite,
        selection: Selection,
        freshness: Freshness,
        asked_at: float,
        failfast: bool,
    ) -> Answer:
        """Whoever held the lock before may have made the report that we wait for."""
        stored = self._stored(selection, failfast)
        if stored:
            moment = stored.report.started_at if freshness.no_cache else stored.report.finished_at
            if moment >= asked_at:
                return stored
        insists = freshness.no_cache or bool(selection.names)
        carried = {} if insists else self._left_alone(suite)
        report = self._run(suite, selection, carried=carried, failfast=failfast)
        return Answer(report=report, age=0.0)

    def _find(self, selection: Selection) -> Suite:
        suite = runner.find(selection, self.options)
        if suite.is_empty:
            raise NothingSelectedError
        return suite

    def _stored(self, selection: Selection, failfast: bool) -> Answer | None:
        """The latest report of this code that covers the selection, if the clock can be trusted."""
        try:
            report = self.store.latest_report(selection, failfast=failfast)
        except StoreError as error:
            _complain(error)
            return None
        if report is None or not report.results or report.started_at < self.code_loaded_at:
            return None
        age = time() - report.finished_at
        return Answer(report=report, age=max(0.0, age)) if age >= -CLOCK_TOLERANCE else None

    def _left_alone(self, suite: Suite) -> Mapping[str, Result]:
        """The latest results of the tests whose ``every`` has not passed."""
        if not any(declaration.every for declaration in suite.declarations):
            return {}
        try:
            latest = self.store.latest_results()
        except StoreError as error:
            _complain(error)
            return {}
        now = time()
        return {
            declaration.id: replace(result, declaration=declaration)
            for declaration in suite.declarations
            if (result := latest.get(declaration.id))
            and result.outcome.is_verdict
            and -CLOCK_TOLERANCE <= now - result.started_at < declaration.every
        }

    def _run(
        self,
        suite: Suite,
        selection: Selection,
        *,
        carried: Mapping[str, Result],
        failfast: bool,
    ) -> Report:
        report = runner.run(
            suite,
            selection,
            self.options,
            abandoned=self.abandoned,
            carried=carried,
            failfast=failfast,
        )
        try:
            self.store.record(report)
        except StoreError as error:
            _complain(error)
        for result in report.problems:
            if not result.carried:
                # A warning, so that handlers that mail the admins on errors leave it alone.
                logger.warning("%s %s: %s", result.id, result.outcome, result.message)
        run_finished.send_robust(sender=Coordinator, report=report)
        return report

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Hold the run lock, waiting for it if not too many do so; gives whether it is held."""
        release = self.run_lock.acquire() or self._wait_for_turn()
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    def _wait_for_turn(self) -> Callable[[], None] | None:
        for place in self.waiting_locks:
            with place.held() as is_ours:
                if is_ours:
                    return self.run_lock.acquire(self.options.run_timeout + GRACE)
        return None


def _complain(error: StoreError) -> None:
    """The answer is given all the same."""
    logger.error("The results store failed. %s", error)
