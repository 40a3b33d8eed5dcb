"""What the results store tells of earlier runs."""

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


def test_nothing_has_run(store: ResultsStore) -> None:
    """Nothing is known, and that is no error."""
    assert store.recent_outcomes(30) == {}
    assert store.past_results(A) == ()
    assert store.known_test(A) is None
    assert store.last_failure(A) is None


def test_recent_outcomes(store: ResultsStore) -> None:
    """The latest runs of each test, the latest last; each test has its own number of them."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.SKIPPED))
    record(store, result(A, Outcome.FAILED))
    record(store, result(A, Outcome.TIMED_OUT), result(B, Outcome.NOT_RUN))
    assert store.recent_outcomes(2) == {
        A: (Outcome.FAILED, Outcome.TIMED_OUT),
        B: (Outcome.SKIPPED,),
    }


def test_past_results(store: ResultsStore) -> None:
    """The latest first, with when they began and how long they took."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.PASSED))
    record(store, result(A, Outcome.FAILED, NOW + 60))
    assert store.past_results(A) == (
        PastResult(outcome=Outcome.FAILED, started_at=NOW + 60, duration=0.25),
        PastResult(outcome=Outcome.PASSED, started_at=NOW, duration=0.25),
    )


def test_past_results__kept(store: ResultsStore) -> None:
    """No more than are kept."""
    for number in range(KEPT_RUNS + 5):
        record(store, result(A, Outcome.PASSED, NOW + number))
    assert [past.started_at for past in store.past_results(A)][::99] == [NOW + 104, NOW + 5]


def test_known_test(store: ResultsStore) -> None:
    """What the snapshot knows of it, and of no other."""
    record(store, result(A, Outcome.FAILED), result(B, Outcome.PASSED))
    known = {test.result.id: test for test in store.snapshot().tests}
    assert store.known_test(A) == known[A]
    assert store.known_test(B) == known[B]
    assert store.known_test("polls") is None


def test_last_failure__of_the_latest_run(store: ResultsStore) -> None:
    """The latest result, if that is one."""
    record(store, result(A, Outcome.FAILED, message="first"), result(B, Outcome.ERRORED))
    failure = result(A, Outcome.TIMED_OUT, message="second")
    record(store, failure, result(B, Outcome.PASSED))
    assert store.last_failure(A) == failure


def test_last_failure__of_an_earlier_run(store: ResultsStore) -> None:
    """The latest run in which it failed."""
    record(store, result(A, Outcome.FAILED, message="first"))
    failure = result(A, Outcome.ERRORED, message="second")
    record(store, result(B, Outcome.FAILED), failure)
    record(store, result(A, Outcome.PASSED), result(B, Outcome.FAILED))
    assert store.last_failure(A) == failure


def test_last_failure__only_what_ran_counts(store: ResultsStore) -> None:
    """A failure of another test is none of its own."""
    record(store, result(A, Outcome.PASSED), result(B, Outcome.FAILED))
    assert store.last_failure(A) is None


def test_last_failure__of_long_ago(store: ResultsStore) -> None:
    """It is kept in full however often the test has passed since."""
    failure = result(A, Outcome.FAILED, message="once")
    record(store, failure)
    for _ in range(KEPT_RUNS + 5):
        record(store, result(A, Outcome.PASSED))
    assert store.last_failure(A) == failure


def test_upgrade__of_a_store_of_the_first_version(tmp_path: Path) -> None:
    """It is written by an older process, and goes on with what it knows."""
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
