"""Value objects for selections, results and reports, and the events of a run.

Everything here is frozen and needs only the standard library: the runner builds it, and the
results store, the formats and the metrics read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

#: Names of database aliases, or every alias of the site.
Databases = tuple[str, ...] | Literal["__all__"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A filter over test ids and tags; the default selects everything.

    A test is selected if it matches one of the names (when there are any), carries one of the
    tags (when there are any) and none of the excluded tags.
    """

    #: Dotted prefixes of test ids: a test, a class, a module or a package.
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    excluded_tags: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        return not (self.names or self.tags or self.excluded_tags)

    def matches(self, test_id: str, tags: Collection[str]) -> bool:
        if self.names and not any(is_dotted_prefix(name, test_id) for name in self.names):
            return False
        if self.tags and not any(tag in tags for tag in self.tags):
            return False
        return not any(tag in tags for tag in self.excluded_tags)

    def covers(self, other: Selection) -> bool:
        """Whether it surely selects all that the other does."""
        return self.is_everything or self == other

    def parameters(self) -> list[tuple[str, str]]:
        """As the endpoint takes them in a query."""
        return [
            *(("test", name) for name in self.names),
            *(("tag", tag) for tag in self.tags),
            *(("exclude_tag", tag) for tag in self.excluded_tags),
        ]

    def __str__(self) -> str:
        """How a message names the selection: ``test polls.smoke, tag db, without tag slow``."""
        parts = [
            *(f"test {name}" for name in self.names),
            *(f"tag {tag}" for tag in self.tags),
            *(f"without tag {tag}" for tag in self.excluded_tags),
        ]
        return ", ".join(parts) or "every test"


def is_dotted_prefix(prefix: str, dotted_name: str) -> bool:
    """Whether the name is the prefix or lies below it: ``a.b`` of ``a.b.c``, not of ``a.bc``."""
    return dotted_name == prefix or dotted_name.startswith(f"{prefix}.")


class Outcome(StrEnum):
    """What came of one smoke test."""

    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    #: Left out of a run that was cut short.
    NOT_RUN = "not_run"

    @property
    def is_problem(self) -> bool:
        """Whether the test ran and did not pass."""
        return self in {Outcome.FAILED, Outcome.ERRORED, Outcome.TIMED_OUT}

    @property
    def is_conclusive(self) -> bool:
        """Whether the test ran to a verdict on the site, good or bad."""
        return self is Outcome.PASSED or self.is_problem


class Severity(StrEnum):
    """How much it matters that a test fails."""

    CRITICAL = "critical"
    #: Reported everywhere, but the run still passes.
    WARNING = "warning"


class StopReason(StrEnum):
    """What cut a run short."""

    NONE = ""
    FAIL_FAST = "failfast"
    DEADLINE = "deadline"
    #: Somebody pressed Ctrl-C.
    INTERRUPT = "interrupt"


class RunResult(StrEnum):
    """How a run ended, as ``smoketest_runs_total`` counts it."""

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A smoke test as its author declared it; times are in seconds."""

    #: ``module.Class.method``
    id: str
    #: Label of the Django app whose smoke module holds the test.
    app: str
    severity: Severity = Severity.CRITICAL
    timeout: float
    slow_after: float
    every: float = 0.0
    maintainer: str = ""
    runbook_url: str = ""
    #: First paragraph of the docstring.
    description: str = ""
    tags: tuple[str, ...] = ()
    databases: Databases = "__all__"
    read_only: bool = False
    #: Whether this stands for a smoke module that could not be imported.
    is_collection_error: bool = False

    @property
    def is_fixture(self) -> bool:
        """Whether this stands for what failed after the tests of a class or a module."""
        return self.id.endswith((".tearDownClass", ".tearDownModule"))

    def is_selected_by(self, selection: Selection) -> bool:
        """A module that cannot be imported passes every filter: it may hold the test asked for."""
        return self.is_collection_error or selection.matches(self.id, self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one test; times of day are Unix seconds, durations are seconds."""

    declaration: Declaration
    outcome: Outcome
    #: What the person who reads the report needs; empty for a test that passed.
    message: str = ""
    #: Name of the exception class, if one was raised.
    exception: str = ""
    traceback: str = ""
    started_at: float
    duration: float = 0.0
    #: Whether it stands in from an earlier run, because ``every`` has not passed yet.
    carried: bool = False

    @property
    def id(self) -> str:
        return self.declaration.id

    @property
    def class_id(self) -> str:
        """``module.Class``"""
        return self.id.rpartition(".")[0]

    @property
    def is_problem(self) -> bool:
        return self.outcome.is_problem

    @property
    def is_critical(self) -> bool:
        return self.declaration.severity is Severity.CRITICAL

    @property
    def finished_at(self) -> float:
        return self.started_at + self.duration

    def as_carried_over(self) -> Self:
        """The same result, standing in for a test that this run leaves alone."""
        return dataclasses.replace(self, carried=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a run; times of day are Unix seconds, durations are seconds."""

    selection: Selection
    results: tuple[Result, ...]
    started_at: float
    #: Measured by a clock that nobody sets.
    duration: float
    stop_reason: StopReason = StopReason.NONE
    #: ``SMOKETEST_RELEASE`` of the process that ran it.
    release: str = ""

    @property
    def finished_at(self) -> float:
        return self.started_at + self.duration

    @property
    def is_full(self) -> bool:
        """Whether it is unfiltered and completed, so that it says everything of the site."""
        return self.selection.is_everything and self.stop_reason is StopReason.NONE

    @property
    def passed(self) -> bool:
        """Whether every critical test that was asked for passed or was skipped."""
        return not any(
            result.is_critical and (result.is_problem or result.outcome is Outcome.NOT_RUN)
            for result in self.results
        )

    @property
    def status(self) -> Literal["PASS", "FAIL"]:
        return "PASS" if self.passed else "FAIL"

    @property
    def result(self) -> RunResult:
        if self.stop_reason is not StopReason.NONE:
            return RunResult.ABORTED
        return RunResult.PASSED if self.passed else RunResult.FAILED

    @property
    def problems(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.is_problem)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """The problems that do not make the run fail."""
        return tuple(result for result in self.problems if not result.is_critical)

    def with_outcome(self, *outcomes: Outcome) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome in outcomes)

    def count(self, *outcomes: Outcome) -> int:
        return len(self.with_outcome(*outcomes))

    def narrowed_to(self, selection: Selection) -> Self:
        """This report, of the selected tests alone."""
        if self.selection == selection:
            return self
        selected = tuple(r for r in self.results if r.declaration.is_selected_by(selection))
        return dataclasses.replace(self, selection=selection, results=selected)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, for the results store."""
        values = dataclasses.asdict(self)
        values["cut"] = values.pop("stop_reason")  # the key that release 2.0 wrote
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the report whose `to_dict` went through JSON."""
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
    """The `Result` whose `dataclasses.asdict` went through JSON."""
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
    """Another run goes on; its report, or a run after it, will be the answer."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins."""

    #: All tests that it knows of, in their order.
    test_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A test of the run begins."""

    test_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A test of the run has its result."""

    result: Result


Event = Waiting | Started | Running | Finished

#: Is told of events, from whichever thread; it must neither raise nor wait.
Listener = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The listener where no one watches."""


def utc(timestamp: float) -> str:
    """For people: ``2026-11-22 09:30:00 UTC``."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(timestamp: float) -> str:
    """For machines, to the millisecond (ISO 8601)."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def from_iso(text: str) -> float:
    """Unix time of what `iso` wrote. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()
