"""Value objects for selections, results and reports, and the events of a run.

All objects are immutable. This module depends only on the standard library.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

#: Maximum number of test names, and of tags, in a request. It bounds the work of a request from a
#: client without access.
MAX_NAMES = 100
#: Database aliases, or ``"__all__"`` for all aliases of the site.
Databases = tuple[str, ...] | Literal["__all__"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A filter over test ids and tags; the default selects everything.

    A test is selected if it matches one of the names (if any), has one of the tags (if any) and
    none of the excluded tags.
    """

    #: Dotted prefixes of test ids: a test, a class, a module or a package.
    names: tuple[str, ...] = ()
    #: Tags, of which a selected test has at least one.
    tags: tuple[str, ...] = ()
    #: Tags, of which a selected test has none.
    excluded_tags: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether all tests are selected."""
        return not (self.names or self.tags or self.excluded_tags)

    def matches(self, test_id: str, tags: Collection[str]) -> bool:
        """Return whether a test with this id and these tags is selected."""
        if self.names and not any(is_dotted_prefix(name, test_id) for name in self.names):
            return False
        if self.tags and not any(tag in tags for tag in self.tags):
            return False
        return not any(tag in tags for tag in self.excluded_tags)

    def covers(self, other: Selection) -> bool:
        """Return whether this selection is known to include every test of `other`."""
        return self.is_everything or self == other

    def parameters(self) -> list[tuple[str, str]]:
        """Return the selection as query parameters of the endpoint."""
        return [
            *(("test", name) for name in self.names),
            *(("tag", tag) for tag in self.tags),
            *(("exclude_tag", tag) for tag in self.excluded_tags),
        ]

    def __str__(self) -> str:
        """Return a description such as ``test polls.smoke, tag db, without tag slow``."""
        parts = [
            *(f"test {name}" for name in self.names),
            *(f"tag {tag}" for tag in self.tags),
            *(f"without tag {tag}" for tag in self.excluded_tags),
        ]
        return ", ".join(parts) or "every test"


def is_dotted_prefix(prefix: str, dotted_name: str) -> bool:
    """Return whether a name equals or is below the prefix: ``a.b.c`` for ``a.b``, not ``a.bc``."""
    return dotted_name == prefix or dotted_name.startswith(f"{prefix}.")


class Outcome(StrEnum):
    """The outcome of a smoke test in a run."""

    #: The test passed, or failed as `unittest.expectedFailure` announces.
    PASSED = "passed"
    #: The test raised `AssertionError`, or passed in spite of `unittest.expectedFailure`.
    FAILED = "failed"
    #: The test raised another exception, or its module could not be imported.
    ERRORED = "errored"
    #: The test exceeded its timeout, or the run its deadline while the test was running.
    TIMED_OUT = "timed_out"
    #: The test raised `unittest.SkipTest`, for example by `unittest.skipIf`.
    SKIPPED = "skipped"
    #: The run was stopped before the test started.
    NOT_RUN = "not_run"

    @property
    def words(self) -> str:
        """The outcome in a sentence: ``timed out``."""
        return self.replace("_", " ")

    @property
    def is_problem(self) -> bool:
        """Whether the test ran and did not pass."""
        return self in {Outcome.FAILED, Outcome.ERRORED, Outcome.TIMED_OUT}

    @property
    def is_conclusive(self) -> bool:
        """Whether the test ran, and either passed or did not pass."""
        return self is Outcome.PASSED or self.is_problem


class Severity(StrEnum):
    """The consequence of a failing test."""

    #: The run fails.
    CRITICAL = "critical"
    #: The failure is reported, but the run passes.
    WARNING = "warning"


class StopReason(StrEnum):
    """The reason why a run was stopped before it completed."""

    #: The run completed.
    NONE = ""
    #: A critical test failed in a run with the fail-fast option.
    FAIL_FAST = "failfast"
    #: The run exceeded its deadline, ``SMOKETEST_RUN_TIMEOUT``.
    DEADLINE = "deadline"
    #: Ctrl-C or a signal.
    INTERRUPT = "interrupt"


class RunResult(StrEnum):
    """The result of a run, as counted by ``smoketest_runs_total``."""

    PASSED = "passed"
    FAILED = "failed"
    #: The run was stopped before it completed.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The declared options of a smoke test; times are in seconds."""

    #: ``module.Class.method``
    id: str
    #: Label of the Django app whose smoke module holds the test.
    app: str
    #: Whether a failure fails the run.
    severity: Severity = Severity.CRITICAL
    #: Timeout; ``SMOKETEST_TIMEOUT`` if the test declares none.
    timeout: float
    #: Slow threshold; ``SMOKETEST_SLOW_AFTER`` if the test declares none.
    slow_after: float
    #: Minimum time between two executions; 0 if each run executes the test.
    every: float = 0.0
    #: Team or person responsible for the test.
    maintainer: str = ""
    #: URL of the instructions for a failure.
    runbook_url: str = ""
    #: First paragraph of the docstring.
    description: str = ""
    #: Sorted tags of the method, its class and the base classes.
    tags: tuple[str, ...] = ()
    #: Aliases of the databases that the test may use.
    databases: Databases = "__all__"
    #: Whether the databases refuse writes.
    read_only: bool = False
    #: Whether this represents a smoke module that could not be imported.
    is_collection_error: bool = False

    @property
    def is_fixture(self) -> bool:
        """Whether this represents the teardown of a class or module."""
        return self.id.endswith((".tearDownClass", ".tearDownModule"))

    def is_selected_by(self, selection: Selection) -> bool:
        """Return whether the test is selected.

        Collection errors always are, because the module may contain a selected test.
        """
        return self.is_collection_error or selection.matches(self.id, self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a test; timestamps are Unix time, durations are in seconds."""

    #: The id and the declared options of the test.
    declaration: Declaration
    #: Whether the test passed, failed, was skipped and so on.
    outcome: Outcome
    #: Reason for the outcome; empty for a test that passed.
    message: str = ""
    #: The part of the reason that contains no data of the site: the message that the author passed
    #: to the assertion, the class of an exception, or a message of this package.
    public_message: str = ""
    #: Name of the exception class, if one was raised.
    exception: str = ""
    #: Traceback of the exception, if one was raised.
    traceback: str = ""
    #: Start of the test.
    started_at: float
    #: Duration including ``setUp()`` and ``tearDown()``, but not the wait for other tests.
    duration: float = 0.0
    #: Whether the result is from an earlier run, because the test is not due (``every``).
    carried: bool = False

    @property
    def id(self) -> str:
        """``module.Class.method``"""
        return self.declaration.id

    @property
    def class_id(self) -> str:
        """``module.Class``"""
        return self.id.rpartition(".")[0]

    @property
    def is_problem(self) -> bool:
        """Whether the test ran and did not pass."""
        return self.outcome.is_problem

    @property
    def is_critical(self) -> bool:
        """Whether a problem of the test fails the run."""
        return self.declaration.severity is Severity.CRITICAL

    @property
    def finished_at(self) -> float:
        """End of the test."""
        return self.started_at + self.duration

    def as_carried_over(self) -> Self:
        """Return a copy for the report of a later run in which the test is not due."""
        return dataclasses.replace(self, carried=True)


#: Value of `ResultFilter.outcome` for all outcomes of tests that did not pass.
PROBLEM = "problem"
FILTER_OUTCOMES = (PROBLEM, *Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFilter:
    """A filter of the displayed results; it affects neither the status nor which tests run."""

    #: Part of the test id, case-insensitive.
    text: str = ""
    app: str = ""
    #: One of `FILTER_OUTCOMES`.
    outcome: str = ""

    @property
    def is_active(self) -> bool:
        return bool(self.text or self.app or self.outcome)

    def matches(self, result: Result) -> bool:
        outcomes = {result.outcome, PROBLEM} if result.is_problem else {result.outcome}
        return (
            self.text.casefold() in result.id.casefold()
            and self.app in {"", result.declaration.app}
            and self.outcome in {"", *outcomes}
        )


EVERY_RESULT = ResultFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a run; timestamps are Unix time, durations are in seconds."""

    #: The filter of the run.
    selection: Selection
    #: One result for each selected test.
    results: tuple[Result, ...]
    #: Start of the run.
    started_at: float
    #: Measured with the monotonic clock.
    duration: float
    #: The reason why the run was stopped early, if it was.
    stop_reason: StopReason = StopReason.NONE
    #: ``SMOKETEST_RELEASE`` of the process that executed the run.
    release: str = ""

    @property
    def finished_at(self) -> float:
        """End of the run."""
        return self.started_at + self.duration

    @property
    def is_full(self) -> bool:
        """Whether the run was unfiltered and completed."""
        return self.selection.is_everything and self.stop_reason is StopReason.NONE

    @property
    def passed(self) -> bool:
        """Whether every selected critical test passed or was skipped."""
        return not any(
            result.is_critical and (result.is_problem or result.outcome is Outcome.NOT_RUN)
            for result in self.results
        )

    @property
    def status(self) -> Literal["PASS", "FAIL"]:
        """The first line of the text format."""
        return "PASS" if self.passed else "FAIL"

    @property
    def result(self) -> RunResult:
        """The result as counted by ``smoketest_runs_total``."""
        if self.stop_reason is not StopReason.NONE:
            return RunResult.ABORTED
        return RunResult.PASSED if self.passed else RunResult.FAILED

    @property
    def problems(self) -> tuple[Result, ...]:
        """Results of the tests that ran and did not pass, of either severity."""
        return tuple(result for result in self.results if result.is_problem)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """Problems that do not fail the run."""
        return tuple(result for result in self.problems if not result.is_critical)

    def with_outcome(self, *outcomes: Outcome) -> tuple[Result, ...]:
        """Return the results that have one of the outcomes."""
        return tuple(result for result in self.results if result.outcome in outcomes)

    def count(self, *outcomes: Outcome) -> int:
        """Return the number of results that have one of the outcomes."""
        return len(self.with_outcome(*outcomes))

    def narrowed_to(self, selection: Selection) -> Self:
        """Return a copy that contains only the selected tests."""
        if self.selection == selection:
            return self
        selected = tuple(r for r in self.results if r.declaration.is_selected_by(selection))
        return dataclasses.replace(self, selection=selection, results=selected)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serializable values, for the results store."""
        values = dataclasses.asdict(self)
        values["cut"] = values.pop("stop_reason")  # the key that release 2.0 wrote
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the report from values of `to_dict` that were decoded from JSON."""
        selection = {key: tuple(names) for key, names in values["selection"].items()}
        return cls(
            selection=Selection(**selection),
            results=tuple(result_from_dict(result) for result in values["results"]),
            started_at=values["started_at"],
            duration=values["duration"],
            stop_reason=StopReason(values["cut"]),
            release=values["release"],
        )


def result_from_dict(values: Mapping[str, Any]) -> Result:
    """Return the result from values of `dataclasses.asdict` that were decoded from JSON."""
    declared = values["declaration"]
    databases = declared["databases"]
    declaration = Declaration(
        **{
            **declared,
            "severity": Severity(declared["severity"]),
            "tags": tuple(declared["tags"]),
            "databases": databases if databases == "__all__" else tuple(databases),
        }
    )
    outcome = Outcome(values["outcome"])
    return Result(**{**values, "declaration": declaration, "outcome": outcome})


@dataclass(frozen=True, slots=True)
class Waiting:
    """The request waits for a run in progress."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run has started."""

    #: Ids of all selected tests, in running order.
    test_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A test has started."""

    test_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A test has a result."""

    result: Result


Event = Waiting | Started | Running | Finished

#: Called with each event, from any thread. It must not raise exceptions or block.
Listener = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Do nothing; the default listener."""


def utc(timestamp: float) -> str:
    """Format a Unix time for messages: ``2026-11-22 09:30:00 UTC``."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(timestamp: float) -> str:
    """Format a Unix time in ISO 8601, with milliseconds."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def from_iso(text: str) -> float:
    """Return the Unix time of an ISO 8601 timestamp. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()
