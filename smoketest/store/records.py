"""Value objects of the results store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smoketest.results import Outcome, Result, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTest:
    """The record of a test; timestamps are Unix time."""

    #: Latest result, including skipped.
    result: Result
    #: Number of consecutive runs in which it failed; skipped runs are ignored.
    consecutive_failures: int
    #: Start of the first of these runs; None if the test passed.
    failing_since: float | None
    last_success_at: float | None
    totals: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Summary of a run; the timestamp is Unix time, the duration is in seconds."""

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
    """Outcome of a test in an earlier run."""

    outcome: Outcome
    #: Unix time.
    started_at: float
    #: Seconds.
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause during which no tests run on this host."""

    #: Unix time at which the pause ends.
    until: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Status of the store, read at each scrape."""

    #: False if the store cannot be used, is not shared, or was reset after the last full run.
    is_up: bool
    #: Number that changes whenever the results change.
    generation: int
    #: Unix time at which the latest run of all tests started, even if it did not complete.
    last_attempt_at: float | None
    #: The current pause, if any.
    pause: Pause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Consistent copy of the records in the store."""

    #: False if the store cannot be used, is not shared, or was reset after the last full run.
    is_up: bool
    #: Whether totals outlive this process; otherwise they are not exported as counters.
    is_shared: bool
    last_full_run: RunSummary | None = None
    last_success_at: float | None = None
    run_totals: Mapping[RunResult, int] = field(default_factory=dict)
    tests: tuple[KnownTest, ...] = ()


class StoreError(Exception):
    """The results store cannot be read or written; the message contains the reason."""
