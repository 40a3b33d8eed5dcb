"""Factories and Hypothesis strategies for results, reports and snapshots."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from smoketest.coordination.coordinator import Answer
from smoketest.results import (
    Declaration,
    Outcome,
    Report,
    Result,
    RunResult,
    Selection,
    Severity,
    StopReason,
)
from smoketest.store import KnownTest, RunSummary, Snapshot

#: 1 February 2026, 12:00:00.5 UTC, which a float holds exactly.
NOW = 1_769_947_200.5

#: Settings of all property-based tests. Deadlines and the check for slow generation are disabled,
#: because the machine may be busy.
PROPERTY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def make_declaration(
    test_id: str = "polls.smoke.PollsTest.test_vote", **fields: Any
) -> Declaration:
    """Return a critical test with default options."""
    defaults: dict[str, Any] = {"id": test_id, "app": "polls", "timeout": 10.0, "slow_after": 1.0}
    return Declaration(**defaults | fields)


def make_result(
    outcome: Outcome = Outcome.PASSED, declaration: Declaration | None = None, **fields: Any
) -> Result:
    """Return the result of a test that started at `NOW` and took 0.25 s."""
    defaults: dict[str, Any] = {"started_at": NOW, "duration": 0.25}
    return Result(
        outcome=outcome, declaration=declaration or make_declaration(), **defaults | fields
    )


def make_collection_error(module: str = "blog.smoke", **fields: Any) -> Result:
    """Return the result of a smoke module that could not be imported."""
    declaration = make_declaration(
        module, app="blog", timeout=0.25, slow_after=0.25, is_collection_error=True
    )
    return make_result(Outcome.ERRORED, declaration, **fields)


def make_report(*results: Result, **fields: Any) -> Report:
    """Return the report of a full run that started at `NOW` and took 0.5 s."""
    defaults: dict[str, Any] = {"selection": Selection(), "started_at": NOW, "duration": 0.5}
    return Report(results=results, **defaults | fields)


def make_known_test(result: Result | None = None, **fields: Any) -> KnownTest:
    """Return the stored state of a test with this result and no history."""
    defaults: dict[str, Any] = {
        "consecutive_failures": 0,
        "failing_since": None,
        "last_success_at": None,
        "totals": {},
    }
    return KnownTest(result=result or make_result(), **defaults | fields)


def make_run_summary(**fields: Any) -> RunSummary:
    """Return the summary of a run with one passed test."""
    defaults: dict[str, Any] = {
        "started_at": NOW,
        "duration": 0.5,
        "passed": True,
        "collection_errors": 0,
        "outcomes": {Outcome.PASSED: 1},
    }
    return RunSummary(**defaults | fields)


def make_snapshot(*tests: KnownTest, **fields: Any) -> Snapshot:
    """Return the snapshot of a shared store with these tests and no run."""
    defaults: dict[str, Any] = {"is_up": True, "is_shared": True}
    return Snapshot(tests=tests, **defaults | fields)


def texts() -> st.SearchStrategy[str]:
    """Return any text that UTF-8 can encode, including characters that formats must escape."""
    awkward = st.lists(
        st.sampled_from(["\\", '"', "\n", "\r", "\t", "\0", "{", "}", ",", "=", " # ", "😀", "n"])
    )
    return st.text(max_size=30) | awkward.map("".join)


def timestamps() -> st.SearchStrategy[float]:
    """Return Unix times from 1970 to 2099."""
    return st.floats(0, 4_102_444_800)


def durations() -> st.SearchStrategy[float]:
    """Return seconds as floats or, as authors may write them, integers."""
    return st.floats(0, 1e6) | st.integers(0, 1_000_000)


def name_tuples() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(texts(), max_size=3).map(tuple)


def selections() -> st.SearchStrategy[Selection]:
    names = name_tuples()
    filtered = st.builds(Selection, names=names, tags=names, excluded_tags=names)
    return st.just(Selection()) | filtered


def declarations() -> st.SearchStrategy[Declaration]:
    return st.builds(
        Declaration,
        id=texts(),
        app=texts(),
        severity=st.sampled_from(Severity),
        timeout=durations(),
        slow_after=durations(),
        every=durations(),
        maintainer=texts(),
        runbook_url=texts(),
        description=texts(),
        tags=name_tuples(),
        databases=st.just("__all__") | name_tuples(),
        read_only=st.booleans(),
        is_collection_error=st.booleans(),
    )


def results() -> st.SearchStrategy[Result]:
    return st.builds(
        Result,
        declaration=declarations(),
        outcome=st.sampled_from(Outcome),
        message=texts(),
        exception=texts(),
        traceback=texts(),
        started_at=timestamps(),
        duration=durations(),
        carried=st.booleans(),
    )


def reports() -> st.SearchStrategy[Report]:
    """Return reports whose results have distinct ids."""
    return st.builds(
        Report,
        selection=selections(),
        results=st.lists(results(), max_size=5, unique_by=lambda result: result.id).map(tuple),
        started_at=timestamps(),
        duration=durations(),
        stop_reason=st.sampled_from(StopReason),
        release=texts(),
    )


def known_tests() -> st.SearchStrategy[KnownTest]:
    return st.builds(
        KnownTest,
        result=results(),
        consecutive_failures=st.integers(0, 1_000_000),
        failing_since=st.none() | timestamps(),
        last_success_at=st.none() | timestamps(),
        totals=st.dictionaries(st.sampled_from(Outcome), st.integers(0, 1_000_000)),
    )


def run_summaries() -> st.SearchStrategy[RunSummary]:
    return st.builds(
        RunSummary,
        started_at=timestamps(),
        duration=durations(),
        passed=st.booleans(),
        collection_errors=st.integers(0, 9),
        outcomes=st.dictionaries(st.sampled_from(Outcome), st.integers(0, 1_000)),
    )


def snapshots() -> st.SearchStrategy[Snapshot]:
    """Return snapshots whose tests have distinct ids."""
    return st.builds(
        Snapshot,
        is_up=st.booleans(),
        is_shared=st.booleans(),
        last_full_run=st.none() | run_summaries(),
        last_success_at=st.none() | timestamps(),
        run_totals=st.dictionaries(st.sampled_from(RunResult), st.integers(0, 1_000_000)),
        tests=st.lists(known_tests(), max_size=3, unique_by=lambda test: test.result.id).map(tuple),
    )


def make_answer(report: Report, **fields: Any) -> Answer:
    """An answer with a report that has just finished."""
    return Answer(report=report, **{"age": 0.0} | fields)
