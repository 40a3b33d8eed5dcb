"""Past outcomes and failures in the results store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from smoketest.results import Outcome, Result, RunResult
from smoketest.store import FILE_NAME, PastResult, ResultsStore, SharedStore
from smoketest.store.directory import open_state_folder
from smoketest.store.recording import KEPT_RUNS
from smoketest.store.schema import SCHEMA
from tests.builders import NOW, make_declaration, make_report, make_result

A = "polls.smoke.PollsTest.test_a"
B = "polls.smoke.PollsTest.test_b"


def result(test_id: str, outcome: Outcome, at: float = NOW, message: str = "") -> Result:
    declaration = make_declaration(test_id)
    return make_result(outcome, declaration, started_at=at, message=message)


def record(store: ResultsStore, *results: Result) -> None:
    store.record(make_report(*results))


def test_empty_store(store: ResultsStore) -> None:
    assert store.recent_outcomes(30) == {}
    assert store.past_results(A) == ()
    assert store.known_test(A) is None
    assert store.last_failure(A) is None


def test_recent_outcomes(store: ResultsStore) -> None:
    """The latest outcomes of each test, oldest first."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.SKIPPED))
    record(store, result(A, Outcome.FAILED))
    record(store, result(A, Outcome.TIMED_OUT), result(B, Outcome.NOT_RUN))
    assert store.recent_outcomes(2) == {
        A: (Outcome.FAILED, Outcome.TIMED_OUT),
        B: (Outcome.SKIPPED,),
    }


def test_past_results(store: ResultsStore) -> None:
    """Past results, latest first, with start time and duration."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.PASSED))
    record(store, result(A, Outcome.FAILED, NOW + 60))
    assert store.past_results(A) == (
        PastResult(outcome=Outcome.FAILED, started_at=NOW + 60, duration=0.25),
        PastResult(outcome=Outcome.PASSED, started_at=NOW, duration=0.25),
    )


def test_past_results__limit(store: ResultsStore) -> None:
    """At most `KEPT_RUNS` results of a test are kept."""
    for number in range(KEPT_RUNS + 5):
        record(store, result(A, Outcome.PASSED, NOW + number))
    assert [past.started_at for past in store.past_results(A)][::99] == [NOW + 104, NOW + 5]


def test_known_test(store: ResultsStore) -> None:
    """A single test equals its entry in the snapshot."""
    record(store, result(A, Outcome.FAILED), result(B, Outcome.PASSED))
    snapshot_tests = {test.result.id: test for test in store.snapshot().tests}
    assert store.known_test(A) == snapshot_tests[A]
    assert store.known_test(B) == snapshot_tests[B]
    assert store.known_test("polls") is None


def test_last_failure__latest_run(store: ResultsStore) -> None:
    record(store, result(A, Outcome.FAILED, message="first"), result(B, Outcome.ERRORED))
    failure = result(A, Outcome.TIMED_OUT, message="second")
    record(store, failure, result(B, Outcome.PASSED))
    assert store.last_failure(A) == failure


def test_last_failure__earlier_run(store: ResultsStore) -> None:
    record(store, result(A, Outcome.FAILED, message="first"))
    failure = result(A, Outcome.ERRORED, message="second")
    record(store, result(B, Outcome.FAILED), failure)
    record(store, result(A, Outcome.PASSED), result(B, Outcome.FAILED))
    assert store.last_failure(A) == failure


def test_last_failure__none(store: ResultsStore) -> None:
    """The failure of another test in the same run is ignored."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.FAILED))
    assert store.last_failure(A) is None


def test_last_failure__older_than_kept_runs(store: ResultsStore) -> None:
    """The last failure is kept completely, regardless of later successes."""
    failure = result(A, Outcome.FAILED, message="once")
    record(store, failure)
    for _ in range(KEPT_RUNS + 5):
        record(store, result(A, Outcome.PASSED))
    assert store.last_failure(A) == failure


def test_upgrade__schema_version_1(tmp_path: Path) -> None:
    """A store with schema version 1 is upgraded and keeps its data."""
    folder = open_state_folder(str(tmp_path), {}, [])
    with closing(sqlite3.connect(folder.file(FILE_NAME))) as database:
        database.executescript(f"{SCHEMA}; PRAGMA user_version = 1")
        database.execute("INSERT INTO run_totals VALUES ('passed', 7)")
        database.commit()
    store = SharedStore(folder)
    assert store.snapshot().run_totals[RunResult.PASSED] == 7
    failure = result(A, Outcome.FAILED)
    record(store, failure)
    assert store.last_failure(A) == failure
