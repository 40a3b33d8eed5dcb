"""What the results store knows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smoketest.results import Outcome, Result, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTest:
    """What is known of one test; times of day are Unix seconds."""

    #: When it last ran or was skipped.
    result: Result
    #: Runs in a row that it did not pass, skips left out.
    consecutive_failures: int
    #: When the first of those began; None if it passed.
    failing_since: float | None
    last_success_at: float | None
    totals: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, in short."""

    started_at: float
    duration: float
    passed: bool
    collection_errors: int
    outcomes: Mapping[Outcome, int]

    @property
    def finished_at(self) -> float:
        return self.started_at + self.duration


@dataclass(frozen=True, slots=True, kw_only=True)
class PastResult:
    """What came of one test in an earlier run: all that is kept of it for long."""

    outcome: Outcome
    #: Unix time.
    started_at: float
    #: Seconds.
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """An operator has stopped all runs on this host for a while."""

    #: Unix time at which it ends by itself.
    until: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The little that is asked at each scrape."""

    #: False if what had been stored could not be read.
    is_up: bool
    #: Another number after each change of the results.
    generation: int
    #: Unix time at which the latest run of all tests began, whatever came of it.
    last_attempt_at: float | None
    #: The pause that goes on, if one does.
    pause: Pause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that the store knows, at one moment."""

    #: False if what had been stored could not be read.
    is_up: bool
    #: Whether totals outlive this process; if not, they are no counters.
    is_shared: bool
    last_full_run: RunSummary | None = None
    last_success_at: float | None = None
    run_totals: Mapping[RunResult, int] = field(default_factory=dict)
    tests: tuple[KnownTest, ...] = ()


class StoreError(Exception):
    """The results store cannot be read or written now; the message says why."""
