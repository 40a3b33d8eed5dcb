"""Execution of a suite in threads with timeouts and a deadline.

Classes run in a limited number of daemon threads while the calling thread supervises them. When a
test exceeds its timeout, its result is reported and its thread is *abandoned*: later results are
discarded, isolation refuses further statements, and a new thread runs the remaining tests. No
exception is raised in the hung thread, because that could leave locks of the process held forever.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from dataclasses import replace
from time import monotonic, time  # imported by name, because a test may patch time
from typing import Protocol

from django.core.cache import caches

from smoketest.isolation import ThreadIsolation
from smoketest.results import (
    Declaration,
    Finished,
    Listener,
    Outcome,
    Report,
    Result,
    Running,
    Selection,
    Started,
    StopReason,
    ignore_events,
    utc,
)
from smoketest.runner.discovery import SmokeClass, Suite
from smoketest.runner.executor import Batch, Execution, Monitor, Step, make_batches
from smoketest.runner.failures import from_exception, from_message, from_thread
from smoketest.runner.options import RunOptions
from smoketest.runner.threads import isolated_thread

#: Seconds to wait, after the run, until the threads have closed their connections.
CLOSE_TIMEOUT = 1.0
#: Maximum wait of the supervisor in seconds. A signal that arrives just before a wait does not
#: interrupt it, so a longer wait would delay Ctrl-C.
LONGEST_WAIT = 0.5


class AbandonedTests(Protocol):
    """The abandoned tests of all processes of the host that are still running."""

    def running(self) -> Mapping[str, float]:
        """Return the test ids with the Unix time at which each started."""

    def hold(self, test_ids: Collection[str], started_at: float) -> Callable[[], None]:
        """Add tests; calling the returned function removes them."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or a signal ended the run; `report` contains the results so far."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def run(
    suite: Suite,
    selection: Selection,
    options: RunOptions,
    *,
    abandoned: AbandonedTests,
    carried: Mapping[str, Result],
    failfast: bool = False,
    listener: Listener = ignore_events,
) -> Report:
    """Run the tests of the suite and return the report.

    Tests with an earlier result in `carried` do not run, and neither do abandoned tests that are
    still running. With `failfast`, no further test starts after a critical test has failed.
    Exceptions of tests become results. Raises `RunInterrupted` on Ctrl-C in the calling thread.

    The tests do not run in the context of the caller, because tools for tracing and error tracking
    would take their requests for parts of its request.
    """
    running = abandoned.running()
    results: dict[str, Result] = {}
    for declaration in suite.declarations:
        if declaration.id in carried:
            results[declaration.id] = carried[declaration.id].as_carried_over()
        elif declaration.id in running:
            results[declaration.id] = _still_running(declaration, running[declaration.id])
    progress = _Progress(results, options, failfast=failfast, listener=listener)
    listener(
        Started(
            (*(error.id for error in suite.collection_errors), *(d.id for d in suite.declarations))
        )
    )
    for result in (*suite.collection_errors, *results.values()):
        progress.stop_if_failed(result)
        listener(Finished(result))
    batches = make_batches(_without_results(suite.classes, results))
    try:
        if options.workers:
            _Supervisor(batches, progress, abandoned).run()
        else:
            Context().run(_run_inline, batches, progress)
    except KeyboardInterrupt as interrupt:
        progress.stop_reason = StopReason.INTERRUPT
        raise RunInterrupted(progress.report(suite, selection)) from interrupt
    return progress.report(suite, selection)


class _Progress:
    """The state of a run, shared by its threads."""

    def __init__(
        self,
        results: dict[str, Result],
        options: RunOptions,
        *,
        failfast: bool,
        listener: Listener,
    ) -> None:
        #: Protects the state of the run; notified when the supervisor has to act.
        self.changed = threading.Condition()
        self.results = results
        self.options = options
        self.stop_reason = StopReason.NONE
        self.started_at = time()
        self.started = monotonic()
        self.deadline = self.started + options.run_timeout
        #: Time of the monotonic clock at which the supervisor stops waiting.
        self.wakes_at = self.deadline
        self._failfast = failfast
        self._listener = listener

    @property
    def is_stopped(self) -> bool:
        return self.stop_reason is not StopReason.NONE

    def execution(self, isolation: ThreadIsolation, monitor: Monitor) -> Execution:
        has_timeouts = self.options.workers > 0
        return Execution(
            isolation,
            monitor,
            lock_timeout=self.options.lock_timeout,
            run_timeout=self.options.run_timeout if has_timeouts else math.inf,
        )

    def wake_supervisor_for(self, deadline: float) -> None:
        """Wake the supervisor if it would sleep beyond `deadline`; the caller holds the lock."""
        if deadline < self.wakes_at:
            self.changed.notify_all()

    def begin(self, step: Step) -> None:
        if not (step.hook or step.declarations[0].is_fixture):
            self._listener(Running(step.declarations[0].id))

    def record(self, result: Result) -> None:
        with self.changed:
            self.results[result.id] = result
            self.stop_if_failed(result)
        self._listener(Finished(result))  # without the lock, because it may be slow

    def stop_if_failed(self, result: Result) -> None:
        if self._failfast and result.is_problem and result.is_critical:
            self.stop_reason = StopReason.FAIL_FAST

    def report(self, suite: Suite, selection: Selection) -> Report:
        """Return the report, with results in the order of discovery."""
        with self.changed:
            results = dict(self.results)
        in_order = [
            results.pop(declaration.id) if declaration.id in results else self._not_run(declaration)
            for declaration in suite.declarations
        ]
        return Report(
            selection=selection,
            results=(*suite.collection_errors, *in_order, *results.values()),
            started_at=self.started_at,
            duration=monotonic() - self.started,
            stop_reason=self.stop_reason,
            release=self.options.release,
        )

    def _not_run(self, declaration: Declaration) -> Result:
        if self.stop_reason is StopReason.FAIL_FAST:
            reason = "another test had failed (fail-fast)"
        elif self.stop_reason is StopReason.INTERRUPT:
            reason = "the run was interrupted"
        else:
            reason = f"the run timed out after {self.options.run_timeout:g} s"
        return Result(
            declaration=declaration,
            outcome=Outcome.NOT_RUN,
            started_at=self.started_at,
            **from_message(reason),
        )


class _Worker(threading.Thread):
    """A thread that runs batches from the queue, and the `Monitor` of their execution.

    Access to its attributes requires ``progress.changed``.
    """

    def __init__(self, name: str, queue: deque[Batch], progress: _Progress) -> None:
        super().__init__(name=name, daemon=True)
        self._queue = queue
        self._progress = progress
        self._isolation: ThreadIsolation | None = None
        self._execution: Execution | None = None
        #: Whether the supervisor has to wait for the thread.
        self.is_busy = True
        self.batch: Batch = ()
        #: The current step, and its deadline on the monotonic clock.
        self.step: Step | None = None
        self.deadline = math.inf
        #: Seconds of the step spent waiting for other tests, which do not count.
        self._waited = 0.0
        #: Called when the thread ends; set if it was abandoned.
        self._on_exit: Callable[[], None] | None = None

    def run(self) -> None:
        try:
            # First, because the supervisor would wait for a batch that no thread has taken.
            has_batch = self._take_batch()
            with isolated_thread(self._waiting) as self._isolation:
                self._execution = self._progress.execution(self._isolation, self)
                while has_batch:
                    self._execution.run(self.batch)
                    has_batch = self._take_batch()
        except _AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001 - an internal error must not hang the run
            self._crash(error)
        finally:
            with self._progress.changed:
                self.is_busy = False
                self._progress.changed.notify_all()
                on_exit = self._on_exit
            if on_exit:
                on_exit()

    @contextmanager
    def timing(self, step: Step) -> Iterator[Callable[[], float]]:
        self._progress.begin(step)
        started = monotonic()
        with self._progress.changed:
            self._end_if_abandoned()
            self.step, self.deadline, self._waited = step, started + step.timeout, 0.0
            self._progress.wake_supervisor_for(self.deadline)
        try:
            yield lambda: monotonic() - started - self._waited
        finally:
            with self._progress.changed:
                if monotonic() >= self.deadline:
                    # The supervisor is late if C code kept the interpreter lock or the test
                    # blocked the gevent hub. It still has to report the timeout.
                    self._progress.changed.wait_for(lambda: self.is_abandoned)
                self._end_if_abandoned()
                self.step, self.deadline = None, math.inf

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Stop the clock of the step while it waits for other tests."""
        began = monotonic()
        with self._progress.changed:
            deadline, self.deadline = self.deadline, math.inf
        try:
            yield
        finally:
            with self._progress.changed:
                waited = monotonic() - began
                self.deadline = deadline + waited
                self._waited += waited
                self._progress.wake_supervisor_for(self.deadline)

    def report(self, result: Result) -> None:
        self._progress.record(result)

    @property
    def is_stopped(self) -> bool:
        return self._progress.is_stopped

    @property
    def is_abandoned(self) -> bool:
        return self._on_exit is not None

    def abandon(self, on_exit: Callable[[], None] = lambda: None) -> None:
        """Stop waiting for the thread; called by the supervisor, which holds the lock."""
        self.is_busy = False
        self._on_exit = on_exit
        self._progress.changed.notify_all()
        if self._isolation is not None:
            self._isolation.abandon()
        if self._execution is not None:
            self._execution.cancel()

    def wait_until_killed(self, timeout: float) -> None:
        if self._isolation is not None:
            self._isolation.wait_until_killed(timeout)

    def _take_batch(self) -> bool:
        with self._progress.changed:
            self._end_if_abandoned()
            if not self._queue or self.is_stopped:
                # The supervisor need not wait until this thread has closed its connections.
                self.batch, self.is_busy = (), False
                self._progress.changed.notify_all()
                return False
            self.batch = self._queue.popleft()
            return True

    def _end_if_abandoned(self) -> None:
        if self.is_abandoned:
            raise _AbandonedError

    def _crash(self, error: BaseException) -> None:
        with self._progress.changed:
            remaining = _without_results(self.batch, self._progress.results)
        for declaration in Suite(classes=remaining).declarations:
            self._progress.record(
                Result(
                    declaration=declaration,
                    outcome=Outcome.ERRORED,
                    started_at=time(),
                    **from_exception(error),
                )
            )


class _AbandonedError(BaseException):
    """Unwinds an abandoned thread."""


class _Supervisor:
    """Starts the threads, abandons those that exceed a timeout, and waits for the others."""

    def __init__(
        self, batches: list[Batch], progress: _Progress, abandoned: AbandonedTests
    ) -> None:
        self._queue = deque(batches)
        self._progress = progress
        self._abandoned = abandoned
        self._workers: list[_Worker] = []

    def run(self) -> None:
        interrupted: list[_Worker] = []
        try:
            with self._progress.changed:
                try:
                    self._supervise()
                finally:  # there are busy threads only after an interrupt
                    interrupted = [worker for worker in self._workers if worker.is_busy]
                    for worker in interrupted:
                        worker.abandon()
        finally:
            self._wait_for(interrupted)

    def _supervise(self) -> None:
        self._start_workers()
        while busy := [worker for worker in self._workers if worker.is_busy]:
            self._progress.wakes_at = min(self._progress.deadline, *(w.deadline for w in busy))
            self._progress.changed.wait(
                min(LONGEST_WAIT, max(0.0, self._progress.wakes_at - monotonic()))
            )
            self._abandon_overdue()
            self._start_workers()

    def _wait_for(self, interrupted: list[_Worker]) -> None:
        """Wait until all connections are closed or, after an interrupt, killed.

        The process may exit afterwards, so the databases should have released all locks by then.
        """
        until = monotonic() + CLOSE_TIMEOUT
        for worker in self._workers:
            if not worker.is_abandoned:
                worker.join(max(0.0, until - monotonic()))
        for worker in interrupted:
            worker.wait_until_killed(max(0.0, until - monotonic()))

    def _start_workers(self) -> None:
        """Start a thread for each queued batch, up to the maximum number of threads."""
        busy = sum(worker.is_busy for worker in self._workers)
        wanted = min(len(self._queue), self._progress.options.workers - busy)
        for _ in range(0 if self._progress.is_stopped else wanted):
            worker = _Worker(f"smoketest-{len(self._workers)}", self._queue, self._progress)
            self._workers.append(worker)
            Context().run(worker.start)

    def _abandon_overdue(self) -> None:
        now = monotonic()
        is_past_deadline = now >= self._progress.deadline
        busy = [worker for worker in self._workers if worker.is_busy]
        if is_past_deadline and busy:
            self._progress.stop_reason = StopReason.DEADLINE
        for worker in busy:
            if worker.step and now >= worker.deadline:
                self._abandon(worker, f"timed out after {worker.step.timeout:g} s")
            elif is_past_deadline:
                seconds = self._progress.options.run_timeout
                self._abandon(worker, f"the run timed out after {seconds:g} s")

    def _abandon(self, worker: _Worker, reason: str) -> None:
        step = worker.step
        if step is None:  # it is between two steps
            worker.abandon()
            return
        test_ids = [declaration.id for declaration in step.declarations]
        failure = from_thread(reason, worker.ident)
        for result in step.results(Outcome.TIMED_OUT, time() - step.started_at, failure):
            self._progress.record(result)
        worker.abandon(self._abandoned.hold(test_ids, step.started_at))
        if remaining := _without_results(worker.batch, self._progress.results):
            self._queue.appendleft(remaining)


class _InlineMonitor:
    """The `Monitor` of an execution in the calling thread, which cannot abandon a test."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress

    def timing(self, step: Step) -> AbstractContextManager[Callable[[], float]]:
        self._progress.begin(step)
        started = monotonic()
        return nullcontext(lambda: monotonic() - started)

    def report(self, result: Result) -> None:
        self._progress.record(result)

    @property
    def is_stopped(self) -> bool:
        if not self._progress.is_stopped and monotonic() >= self._progress.deadline:
            self._progress.stop_reason = StopReason.DEADLINE
        return self._progress.is_stopped


def _run_inline(batches: list[Batch], progress: _Progress) -> None:
    monitor = _InlineMonitor(progress)
    with ThreadIsolation() as isolation:
        execution = progress.execution(isolation, monitor)
        try:
            for batch in batches:
                if not monitor.is_stopped:
                    execution.run(batch)
        finally:
            with suppress(Exception):
                caches.close_all()  # those of this context, which the caller cannot close


def _still_running(declaration: Declaration, since: float) -> Result:
    return Result(
        declaration=declaration,
        outcome=Outcome.TIMED_OUT,
        started_at=time(),
        **from_message(f"still running since {utc(since)}, so it was not started again"),
    )


def _without_results(
    classes: tuple[SmokeClass, ...], results: Collection[str]
) -> tuple[SmokeClass, ...]:
    """Return the classes reduced to tests that have no result yet."""
    remaining = []
    for smoke_class in classes:
        pending = tuple(d for d in smoke_class.declarations if d.id not in results)
        if pending:
            remaining.append(replace(smoke_class, declarations=pending))
    return tuple(remaining)
