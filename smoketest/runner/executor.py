"""Sequential execution of a batch of smoke tests in the calling thread.

Like `unittest.TestSuite`, this runs class and module fixtures and their cleanups. In addition, it
isolates each step and reports one result per test. It does not enforce timeouts: it announces each
step and its timeout to a `Monitor`.
"""

from __future__ import annotations

import math
import unittest
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby
from time import time  # imported by name, because a test may patch time.time
from types import ModuleType
from typing import Any, Protocol

from django.utils import timezone, translation

from smoketest.case import SmokeTest
from smoketest.isolation import (
    IsolationError,
    Limits,
    RefusedStatementError,
    Scope,
    ThreadIsolation,
)
from smoketest.results import Databases, Declaration, Outcome, Result, Severity
from smoketest.runner.discovery import SmokeClass
from smoketest.runner.failures import (
    Failure,
    from_assertion,
    from_exception,
    from_message,
    is_interrupt,
    with_prefix,
)

#: Classes whose tests share a thread.
Batch = tuple[SmokeClass, ...]

#: Performs a step; returns exceptions in addition to the one that it raises.
_Action = Callable[[], Iterable[BaseException]]

_WORST_FIRST = (Outcome.ERRORED, Outcome.FAILED, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A test or fixture: a piece of test code with a timeout, and the tests that it affects."""

    #: Name of the fixture, such as ``setUpClass``; empty for a test.
    hook: str = ""
    declarations: tuple[Declaration, ...]
    #: Seconds.
    timeout: float
    #: Unix time.
    started_at: float

    def results(self, outcome: Outcome, duration: float, failure: Failure) -> Iterator[Result]:
        """Yield a result with this outcome for each affected test."""
        if self.hook:
            failure = with_prefix(self.hook, failure)
        for declaration in self.declarations:
            yield Result(
                declaration=declaration,
                outcome=outcome,
                started_at=self.started_at,
                duration=duration,
                **failure,
            )


class Monitor(Protocol):
    """Receives the results of an execution and may abandon it."""

    def timing(self, step: Step) -> AbstractContextManager[Callable[[], float]]:
        """Supervise a step; the context value returns the elapsed time in seconds.

        Leaving the context raises an exception if the thread was abandoned.
        """

    def report(self, result: Result) -> None:
        """Record the result of a test."""

    @property
    def is_stopped(self) -> bool:
        """Whether no further test should start."""


def make_batches(classes: Iterable[SmokeClass]) -> list[Batch]:
    """Return one batch per class, so that classes run in parallel.

    Classes of modules with fixtures form a single batch, because they share the result of
    ``setUpModule`` and unittest keeps a single list of module cleanups per process.
    """
    batches: list[Batch] = []
    with_module_fixtures: list[SmokeClass] = []
    for smoke_class in classes:
        if _has_module_fixtures(smoke_class.module):
            with_module_fixtures.append(smoke_class)
        else:
            batches.append((smoke_class,))
    return [tuple(with_module_fixtures), *batches] if with_module_fixtures else batches


class Execution:
    """Runs batches in the thread of `isolation`; timeouts are in seconds."""

    def __init__(
        self,
        isolation: ThreadIsolation,
        monitor: Monitor,
        *,
        lock_timeout: float,
        run_timeout: float,
    ) -> None:
        self._isolation = isolation
        self._monitor = monitor
        self._lock_timeout = lock_timeout
        self._run_timeout = run_timeout
        self._test: SmokeTest | None = None

    def run(self, batch: Batch) -> None:
        # Imports Django's test framework, which is slow, so not at the start of the process.
        from smoketest.runner.refusals import refuse_helpers  # noqa: PLC0415

        refuse_helpers()
        for module, group in groupby(batch, key=lambda smoke_class: smoke_class.module):
            if _has_module_fixtures(module):
                self._run_with_module_fixtures(module, list(group))
            else:
                for smoke_class in group:
                    self._run_class(smoke_class, list(smoke_class.declarations))

    def _run_with_module_fixtures(self, module: ModuleType, classes: list[SmokeClass]) -> None:
        pending = {smoke_class: list(smoke_class.declarations) for smoke_class in classes}
        while pending and not self._monitor.is_stopped:
            fixtures = self._fixtures(
                module.__name__,
                "Module",
                SmokeTest,
                chain.from_iterable(pending.values()),
                set_up=vars(module).get("setUpModule", lambda: None),
                tear_down=vars(module).get("tearDownModule", lambda: None),
                clean_up=_do_module_cleanups,
            )
            with fixtures as scope:
                if scope is None:
                    return
                while pending and scope.intact and not self._monitor.is_stopped:
                    smoke_class = next(iter(pending))
                    self._run_class(smoke_class, pending[smoke_class], scope)
                    if not pending[smoke_class]:
                        del pending[smoke_class]

    def _run_class(
        self, smoke_class: SmokeClass, pending: list[Declaration], outer: Scope | None = None
    ) -> None:
        """Run the pending tests, and remove each from the list.

        If a test loses the connection, and with it the changes of ``setUpClass``, the class
        fixtures run again for the remaining tests, unless the module fixtures are lost as well.
        """
        case = smoke_class.case
        if not _has_class_fixtures(case):
            declarations = tuple(pending)
            while pending and not self._monitor.is_stopped and (outer is None or outer.intact):
                self._run_test(smoke_class, pending.pop(0))
            self._clean_up_class(smoke_class, declarations)
            return
        while pending and not self._monitor.is_stopped and (outer is None or outer.intact):
            fixtures = self._fixtures(
                smoke_class.id,
                "Class",
                case,
                pending,
                set_up=case.setUpClass,
                tear_down=case.tearDownClass,
                clean_up=lambda: _do_class_cleanups(case),
            )
            with fixtures as scope:
                if scope is None:
                    pending.clear()
                    return
                while pending and scope.intact and not self._monitor.is_stopped:
                    self._run_test(smoke_class, pending.pop(0))

    def _run_test(self, smoke_class: SmokeClass, declaration: Declaration) -> None:
        case = smoke_class.case
        problems = _Problems(declaration.id)
        step = _step((declaration,), declaration.timeout)
        with self._monitor.timing(step) as elapsed:
            with (
                _restored_locale(),
                problems.catching(),
                self._scope(declaration.id, case, step.timeout, idle=step.timeout),
            ):
                self._test = case(declaration.id.removeprefix(f"{smoke_class.id}."))
                self._test.run(_Recorder(self._test, problems))
                self._test = None  # so that open cursors of the test are closed within its scope
            duration = elapsed()
        self._report(step, problems, duration)

    def _clean_up_class(
        self, smoke_class: SmokeClass, declarations: tuple[Declaration, ...]
    ) -> None:
        """Run class cleanups that tests of a class without class fixtures have added."""
        case = smoke_class.case
        if not case._class_cleanups:  # type: ignore[attr-defined]
            return
        name = f"{smoke_class.id}.tearDownClass"
        timeout = _longest(declarations)

        def clean_up() -> list[BaseException]:
            with self._scope(name, case, timeout, idle=timeout):
                return list(_do_class_cleanups(case))

        self._tear_down(name, declarations, timeout, [clean_up], None)

    @contextmanager
    def _fixtures(
        self,
        owner: str,
        kind: str,
        case: type[SmokeTest],
        declarations: Iterable[Declaration],
        *,
        set_up: Callable[[], Any],
        tear_down: Callable[[], Any],
        clean_up: _Action,
    ) -> Iterator[Scope | None]:
        """Run ``setUpClass`` or ``setUpModule`` before the block and the teardown after it.

        Yield the scope of the fixtures, or None if the setup failed and the results of the tests
        have been reported.
        """
        declarations = tuple(declarations)
        timeout = _longest(declarations)
        with _restored_locale(), ExitStack() as stack:

            def end_scope() -> list[BaseException]:
                stack.close()
                return []

            def call_tear_down() -> list[BaseException]:
                tear_down()
                return []

            scope: Scope | None = None
            problems = _Problems(owner)
            step = _step(declarations, timeout, f"setUp{kind}")
            with self._monitor.timing(step) as elapsed:
                with problems.catching():
                    # Its connections are idle while tests use other databases.
                    idle = self._run_timeout
                    scope = stack.enter_context(self._scope(owner, case, timeout, idle=idle))
                    set_up()
                duration = elapsed()
            if problems:
                self._report(step, problems, duration)
                yield None
                actions: list[_Action] = [clean_up, end_scope]
            else:
                yield scope
                actions = [call_tear_down, clean_up, end_scope]
            self._tear_down(f"{owner}.tearDown{kind}", declarations, timeout, actions, scope)

    def _tear_down(
        self,
        name: str,
        declarations: tuple[Declaration, ...],
        timeout: float,
        actions: Sequence[_Action],
        scope: Scope | None,
    ) -> None:
        """Run the actions; report a problem as a separate result, since the tests have theirs."""
        severities = {declaration.severity for declaration in declarations}
        declaration = replace(
            declarations[0],
            id=name,
            severity=Severity.CRITICAL if Severity.CRITICAL in severities else Severity.WARNING,
            timeout=timeout,
            description="",
        )
        problems = _Problems(name)
        step = _step((declaration,), timeout)
        with self._monitor.timing(step) as elapsed:
            for action in actions:
                with problems.catching():
                    for error in action():
                        with problems.catching():
                            raise error
            duration = elapsed()
        was_lost = scope is not None and not scope.intact  # then the teardown fails anyway
        if problems.outcome.is_problem and not was_lost:
            self._report(step, problems, duration)

    def cancel(self) -> None:
        """Cancel the running ``async def`` test, if any; called from another thread."""
        if (test := self._test) is not None:
            test.cancel()

    def _scope(
        self, name: str, case: type[SmokeTest], timeout: float, *, idle: float
    ) -> AbstractContextManager[Scope]:
        databases: Databases = "__all__" if case.databases == "__all__" else tuple(case.databases)
        if math.isinf(self._run_timeout):  # no timeouts are enforced
            idle = math.inf
        limits = Limits(
            statement=timeout, lock=self._lock_timeout, idle=idle, read_only=case.read_only
        )
        return self._isolation.scope(name, databases, limits)

    def _report(self, step: Step, problems: _Problems, duration: float) -> None:
        for result in step.results(problems.outcome, duration, problems.failure):
            self._monitor.report(result)


class _Problems:
    """Problems of a step; the worst determines the outcome."""

    def __init__(self, test_id: str) -> None:
        self._test_id = test_id
        self._problems: list[tuple[Outcome, Failure]] = []

    def __bool__(self) -> bool:
        return bool(self._problems)

    @property
    def outcome(self) -> Outcome:
        outcomes = {outcome for outcome, _ in self._problems}
        return next((outcome for outcome in _WORST_FIRST if outcome in outcomes), Outcome.PASSED)

    @property
    def failure(self) -> Failure:
        """The first failure with the worst outcome, and the tracebacks of all.

        Statements refused by isolation take precedence over the errors that they caused.
        """
        worst = [failure for outcome, failure in self._problems if outcome is self.outcome]
        if not worst:
            return from_message("")
        refused = [f for f in worst if f["exception"] == RefusedStatementError.__qualname__]
        first = (refused or worst)[0]
        more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
        return {
            **first,
            "message": first["message"] + more,
            "public_message": first["public_message"] + more,
            "traceback": "\n".join(failure["traceback"] for _, failure in self._problems),
        }

    def add(self, outcome: Outcome, failure: Failure) -> None:
        self._problems.append((outcome, failure))

    def add_error(self, error: BaseException, subtest: str = "") -> None:
        if isinstance(error, IsolationError):
            error.is_reported = True
        self._add_exception(Outcome.ERRORED, from_exception(error), subtest)

    def add_failure(self, error: BaseException, subtest: str = "") -> None:
        self._add_exception(Outcome.FAILED, from_assertion(error, self._test_id), subtest)

    def _add_exception(self, outcome: Outcome, failure: Failure, subtest: str) -> None:
        # The public message does not name the subtest, whose parameters are data of the site.
        self.add(outcome, {**failure, "message": f"{subtest}{failure['message']}"})

    def skip(self, reason: str) -> None:
        self.add(Outcome.SKIPPED, {**from_message(reason), "public_message": ""})

    @contextmanager
    def catching(self) -> Iterator[None]:
        try:
            yield
        except unittest.SkipTest as skip:
            self.skip(str(skip))
        except BaseException as error:
            if is_interrupt(error):
                raise
            add = self.add_failure if isinstance(error, AssertionError) else self.add_error
            add(error)


class _Recorder(unittest.TestResult):
    """A `unittest.TestResult` that collects the problems of one test."""

    def __init__(self, test: SmokeTest, problems: _Problems) -> None:
        super().__init__()
        self._test = test
        self._problems = problems

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._problems.add_error(err[1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._problems.add_failure(err[1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is None:
            return
        which = subtest.id().removeprefix(f"{test.id()} ")
        if issubclass(err[0], test.failureException):
            self._problems.add_failure(err[1], f"{which} ")
        else:
            self._problems.add_error(err[1], f"{which} ")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if test is self._test:  # a skipped subtest does not skip the rest
            self._problems.skip(reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        """Do nothing: the test passes."""

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._problems.add(
            Outcome.FAILED,
            from_message("unexpected success: it passed, but is marked as expectedFailure"),
        )


@contextmanager
def _restored_locale() -> Iterator[None]:
    """Restore the language and time zone of the thread, which a test or fixture may activate."""
    language, zone = translation.get_language(), timezone.get_current_timezone()
    with translation.override(language), timezone.override(zone):
        yield


def _longest(declarations: Iterable[Declaration]) -> float:
    return max(declaration.timeout for declaration in declarations)


def _step(declarations: Sequence[Declaration], timeout: float, hook: str = "") -> Step:
    return Step(hook=hook, declarations=tuple(declarations), timeout=timeout, started_at=time())


def _has_module_fixtures(module: ModuleType) -> bool:
    return not vars(module).keys().isdisjoint({"setUpModule", "tearDownModule"})


def _has_class_fixtures(case: type[SmokeTest]) -> bool:
    if getattr(case, "__unittest_skip__", False):
        return False
    return any(
        getattr(getattr(case, name), "__func__", None) is not getattr(SmokeTest, name).__func__
        for name in ("setUpClass", "setUpTestData", "tearDownClass")
    )


def _do_class_cleanups(case: type[SmokeTest]) -> Iterator[BaseException]:
    case.doClassCleanups()
    for _, error, _ in case.tearDown_exceptions:  # type: ignore[attr-defined]
        yield error


def _do_module_cleanups() -> Iterator[BaseException]:
    unittest.doModuleCleanups()
    yield from ()
