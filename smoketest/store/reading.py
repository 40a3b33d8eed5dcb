"""Queries for the records of tests and the latest run."""

from __future__ import annotations

import json
import sqlite3

from smoketest.results import Outcome, RunResult, Selection, result_from_dict
from smoketest.store.records import KnownTest, RunSummary, Snapshot
from smoketest.store.schema import WAS_RESET, read_metadata


def read_snapshot(database: sqlite3.Connection, *, is_shared: bool) -> Snapshot:
    metadata = read_metadata(database)
    tests = read_known_tests(database)
    row = database.execute(
        "SELECT started_at, duration, passed, collection_errors, outcomes FROM runs"
        " WHERE is_full ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Snapshot(
        is_up=is_shared and WAS_RESET not in metadata,
        is_shared=is_shared,
        last_full_run=row and _summary(*row),
        last_success_at=metadata.get("last_success_at"),
        run_totals={
            RunResult(result): runs
            for result, runs in database.execute("SELECT result, runs FROM run_totals")
        },
        tests=tests,
    )


def _summary(
    started_at: float, duration: float, passed: int, collection_errors: int, outcomes: str
) -> RunSummary:
    return RunSummary(
        started_at=started_at,
        duration=duration,
        passed=bool(passed),
        collection_errors=collection_errors,
        outcomes={Outcome(name): count for name, count in json.loads(outcomes).items()},
    )


def read_known_tests(
    database: sqlite3.Connection, test: str | None = None
) -> tuple[KnownTest, ...]:
    """Return the records of all tests, or of `test` only."""
    named = {"test": test}
    totals: dict[str, dict[Outcome, int]] = {}
    for name, outcome, runs in database.execute(
        "SELECT test, outcome, runs FROM test_totals WHERE :test IS NULL OR test = :test", named
    ):
        totals.setdefault(name, {})[Outcome(outcome)] = runs
    return tuple(
        KnownTest(
            result=result_from_dict(json.loads(text)),
            consecutive_failures=failures,
            failing_since=failing_since,
            last_success_at=last_success_at,
            totals=totals.get(name, {}),
        )
        for name, text, failures, failing_since, last_success_at in database.execute(
            "SELECT test, result, consecutive_failures, failing_since, last_success_at FROM tests"
            " WHERE :test IS NULL OR test = :test",
            named,
        )
    )


def read_selection(text: str) -> Selection:
    """Return the selection stored by `smoketest.store.recording`."""
    return Selection(**{name: tuple(names) for name, names in json.loads(text).items()})
