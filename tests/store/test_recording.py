"""Recording, pruning and recovery of the results store."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import sleep, time

import pytest
from hypothesis import given

from smoketest.results import Outcome, Report, Result, RunResult, Selection, Severity, StopReason
from smoketest.store import (
    FILE_NAME,
    KnownTest,
    MemoryStore,
    ResultsStore,
    RunSummary,
    SharedStore,
    Snapshot,
    StoreError,
)
from smoketest.store.directory import StateFolder
from smoketest.store.recording import KEPT_REPORTS, KEPT_RUNS
from smoketest.store.schema import SCHEMA_VERSION
from tests.builders import (
    NOW,
    PROPERTY,
    make_collection_error,
    make_declaration,
    make_known_test,
    make_report,
    make_result,
    reports,
)

A = "polls.smoke.PollsTest.test_a"
B = "polls.smoke.PollsTest.test_b"
C = "blog.smoke.BlogTest.test_c"
EVERYTHING = Selection()
ONLY_A = Selection(names=(A,))
#: Number of new stores that two processes create at the same time, to provoke races.
NEW_STORES = 40
SPAWN = multiprocessing.get_context("spawn")

PASSED, FAILED, ERRORED = Outcome.PASSED, Outcome.FAILED, Outcome.ERRORED
TIMED_OUT, SKIPPED, NOT_RUN = Outcome.TIMED_OUT, Outcome.SKIPPED, Outcome.NOT_RUN


def result_of(test: str, outcome: Outcome = PASSED, *, at: float = NOW, **fields: object) -> Result:
    return make_result(outcome, make_declaration(test), started_at=at, **fields)


def record(store: ResultsStore, *results: Result, at: float = NOW, **fields: object) -> Report:
    report = make_report(*results, started_at=at, **fields)
    store.record(report)
    return report


def known_tests(store: ResultsStore) -> dict[str, KnownTest]:
    return {test.result.id: test for test in store.snapshot().tests}


def count(store: ResultsStore, query: str) -> int:
    with store.connect() as database:
        (number,) = database.execute(query).fetchone()
    return int(number)


def damage(path: Path) -> None:
    """Overwrite all pages but the first, so that the store can still be opened."""
    size = path.stat().st_size
    assert size > 4096
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


# Recording


def test_location(shared: SharedStore, folder: StateFolder) -> None:
    assert shared.location == str(folder.path / FILE_NAME)
    assert MemoryStore().location == "the memory of this process"


def test_snapshot__empty_store(store: ResultsStore) -> None:
    """A new store is empty; it is up only if it is shared."""
    assert store.snapshot() == Snapshot(is_up=store.is_shared, is_shared=store.is_shared)
    assert store.latest_results() == {}
    assert store.latest_report(EVERYTHING, failfast=False) is None


def test_record__full_run(store: ResultsStore) -> None:
    """A full run is stored with its tests, totals and last success."""
    a, b = result_of(A), result_of(B, SKIPPED)
    report = record(store, a, b)
    assert store.latest_report(EVERYTHING, failfast=False) == report
    assert store.latest_results() == {A: a, B: b}
    assert store.snapshot() == Snapshot(
        is_up=store.is_shared,
        is_shared=store.is_shared,
        last_full_run=RunSummary(
            started_at=NOW,
            duration=0.5,
            passed=True,
            collection_errors=0,
            outcomes={PASSED: 1, SKIPPED: 1},
        ),
        last_success_at=NOW + 0.5,
        run_totals={RunResult.PASSED: 1},
        tests=(
            make_known_test(a, last_success_at=NOW + 0.25, totals={PASSED: 1}),
            make_known_test(b, totals={SKIPPED: 1}),
        ),
    )


@PROPERTY
@given(reports())
def test_record__any_report(report: Report) -> None:
    """Any report and its results are read as they were recorded."""
    store = MemoryStore()
    store.record(report)
    is_stored = report.stop_reason is not StopReason.INTERRUPT
    assert store.latest_report(report.selection, failfast=True) == (report if is_stored else None)
    ran = {r.id: r for r in report.results if not r.carried and r.outcome is not NOT_RUN}
    assert store.latest_results() == ran
    assert {test: item.totals for test, item in known_tests(store).items()} == {
        test: {result.outcome: 1} for test, result in ran.items()
    }


def test_record__streak_and_totals(store: ResultsStore) -> None:
    """A streak starts with the first failure, continues through skips and ends with a success."""
    history = [
        (PASSED, 0, None, 1.25),
        (FAILED, 1, 2.0, 1.25),
        (ERRORED, 2, 2.0, 1.25),
        (SKIPPED, 2, 2.0, 1.25),
        (TIMED_OUT, 3, 2.0, 1.25),
        (PASSED, 0, None, 6.25),
        (SKIPPED, 0, None, 6.25),
        (FAILED, 1, 8.0, 6.25),
    ]
    totals: dict[Outcome, int] = {}
    for at, (outcome, failures, failing_since, last_success_at) in enumerate(history, 1):
        result = result_of(A, outcome, at=float(at))
        record(store, result, at=float(at))
        totals[outcome] = totals.get(outcome, 0) + 1
        assert known_tests(store)[A] == KnownTest(
            result=result,
            consecutive_failures=failures,
            failing_since=failing_since,
            last_success_at=last_success_at,
            totals=totals,
        )


@pytest.mark.parametrize("outcome", [FAILED, ERRORED, TIMED_OUT])
def test_record__first_run_fails(store: ResultsStore, outcome: Outcome) -> None:
    """A test that has always failed has no last success."""
    result = result_of(A, outcome)
    record(store, result)
    snapshot = store.snapshot()
    assert snapshot.tests == (
        make_known_test(result, consecutive_failures=1, failing_since=NOW, totals={outcome: 1}),
    )
    assert snapshot.last_success_at is None
    assert snapshot.run_totals == {RunResult.FAILED: 1}
    assert snapshot.last_full_run is not None
    assert not snapshot.last_full_run.passed


def test_record__last_success_of_full_runs(store: ResultsStore) -> None:
    """Failed full runs and passed filtered runs do not change the last success."""
    record(store, result_of(A), at=100.0)
    record(store, result_of(A, FAILED), at=200.0)
    record(store, result_of(A), at=300.0, selection=ONLY_A)
    assert store.snapshot().last_success_at == 100.5
    record(store, result_of(A), at=400.0)
    assert store.snapshot().last_success_at == 400.5
    assert store.snapshot().run_totals == {RunResult.PASSED: 2, RunResult.FAILED: 1}


def test_record__warning(store: ResultsStore) -> None:
    """A failing test of severity warning has a streak, but its run passes."""
    warning = make_declaration(A, severity=Severity.WARNING)
    record(store, make_result(FAILED, warning))
    assert known_tests(store)[A].consecutive_failures == 1
    assert store.snapshot().last_success_at == NOW + 0.5
    assert store.snapshot().run_totals == {RunResult.PASSED: 1}


def test_record__filtered_run(store: ResultsStore) -> None:
    """A filtered run changes only its own tests, not the totals of full runs."""
    record(store, result_of(A, FAILED), result_of(B), result_of(C), at=100.0)
    before = store.snapshot()
    a = result_of(A, FAILED, at=200.0)
    record(store, a, at=200.0, selection=ONLY_A)
    after = store.snapshot()
    assert after.last_full_run == before.last_full_run
    assert after.last_success_at == before.last_success_at
    assert after.run_totals == before.run_totals == {RunResult.FAILED: 1}
    assert known_tests(store)[A] == make_known_test(
        a, consecutive_failures=2, failing_since=NOW, totals={FAILED: 2}
    )
    assert [test for test in after.tests if test.result.id != A] == [
        test for test in before.tests if test.result.id != A
    ]


@pytest.mark.parametrize("stop_reason", [StopReason.FAIL_FAST, StopReason.DEADLINE])
def test_record__stopped_run(store: ResultsStore, stop_reason: StopReason) -> None:
    """A stopped run counts as aborted and changes only the tests that ran."""
    record(store, result_of(A), result_of(B), result_of(C), at=100.0)
    before = store.snapshot()
    a, b = result_of(A, FAILED, at=200.0), result_of(B, NOT_RUN, at=200.0)
    record(store, a, b, at=200.0, stop_reason=stop_reason)
    after = store.snapshot()
    assert after.last_full_run == before.last_full_run
    assert after.last_success_at == 100.5
    assert after.run_totals == {RunResult.PASSED: 1, RunResult.ABORTED: 1}
    assert set(known_tests(store)) == {A, B, C}
    assert known_tests(store)[A].result == a
    assert known_tests(store)[A].totals == {PASSED: 1, FAILED: 1}
    assert known_tests(store)[B].result == result_of(B)
    assert known_tests(store)[B].totals == {PASSED: 1}


def test_record__stopped_filtered_run(store: ResultsStore) -> None:
    """A filtered run that was stopped does not count as an aborted run."""
    record(store, result_of(A, FAILED), selection=ONLY_A, stop_reason=StopReason.FAIL_FAST)
    assert store.snapshot().run_totals == {}
    assert store.snapshot().last_full_run is None


def test_record__carried_over_result(store: ResultsStore) -> None:
    """A carried-over result is kept and not counted."""
    record(store, result_of(A, FAILED), at=100.0)
    before = known_tests(store)
    report = record(store, result_of(A, FAILED).as_carried_over(), result_of(B), at=200.0)
    assert known_tests(store)[A] == before[A]
    assert known_tests(store)[A].result.carried is False
    assert store.latest_report(EVERYTHING, failfast=False) == report
    assert store.snapshot().last_full_run == RunSummary(
        started_at=200.0,
        duration=0.5,
        passed=False,
        collection_errors=0,
        outcomes={FAILED: 1, PASSED: 1},
    )


@pytest.mark.parametrize(
    "fixture", ["polls.smoke.PollsTest.tearDownClass", "polls.smoke.tearDownModule"]
)
def test_record__fixture_error(store: ResultsStore, fixture: str) -> None:
    """A fixture error has a result and fails the run, but is not counted as a test."""
    record(store, result_of(A), result_of(fixture, ERRORED))
    assert set(known_tests(store)) == {A, fixture}
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert (summary.outcomes, summary.passed) == ({PASSED: 1}, False)


def test_record__removed_test(store: ResultsStore) -> None:
    """A full run without a test removes the test and its totals."""
    record(store, result_of(A), result_of(B, FAILED))
    record(store, result_of(A), selection=ONLY_A)
    assert set(known_tests(store)) == {A, B}
    record(store, result_of(A))
    assert set(known_tests(store)) == set(store.latest_results()) == {A}
    assert count(store, "SELECT count(*) FROM test_totals") == 1
    record(store, result_of(A), result_of(B, FAILED))
    assert known_tests(store)[B].consecutive_failures == 1
    assert known_tests(store)[B].totals == {FAILED: 1}


def test_record__import_timeout(store: ResultsStore) -> None:
    """If an import times out, no test is removed, so that firing alerts do not resolve."""
    record(store, result_of(A, FAILED), result_of(C))
    before = known_tests(store)
    error = replace(make_collection_error("blog.smoke"), outcome=TIMED_OUT)
    record(store, error)
    after = known_tests(store)
    assert set(after) == {A, C, "blog.smoke"}
    assert (after[A], after[C]) == (before[A], before[C])


def test_record__collection_error(store: ResultsStore) -> None:
    """The tests of a module with a collection error are kept."""
    deep, alike = "blog.smoke.deep.DeepTest.test", "blog.smokey.SmokeyTest.test"
    record(store, result_of(A), result_of(C, FAILED), result_of(deep), result_of(alike))
    before = known_tests(store)
    error = make_collection_error("blog.smoke")
    record(store, result_of(A), error)
    after = known_tests(store)
    assert set(after) == {A, C, deep, "blog.smoke"}
    assert (after[C], after[deep]) == (before[C], before[deep])
    assert after["blog.smoke"].result == error
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert (summary.collection_errors, summary.passed) == (1, False)
    record(store, result_of(A), result_of(C), result_of(deep))
    assert set(known_tests(store)) == {A, C, deep}
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert summary.collection_errors == 0


def test_record__unusual_strings(store: ResultsStore) -> None:
    """Strings with NUL, emoji, lone surrogates or a megabyte of text are read unchanged."""
    declaration = make_declaration(
        "polls.smoke.Pölls.test_日本", maintainer="\0'\";--", tags=("🔥",), databases=("défaut",)
    )
    unusual = make_result(
        FAILED,
        declaration,
        message="\0 🔥 \ud800 \x1b[31m %s {} \r\n",
        exception="\N{RIGHT-TO-LEFT OVERRIDE}",
        traceback="🔥" * 2**18,
    )
    selection = Selection(names=("\0", "\udfff"), tags=("🔥",))
    report = record(store, unusual, selection=selection, release="\ud800")
    assert store.latest_report(selection, failfast=False) == report
    assert store.latest_results() == {declaration.id: unusual}
    assert store.snapshot().tests[0].result == unusual


def test_record__rollback(store: ResultsStore) -> None:
    """If recording fails, no part of the run is stored."""
    record(store, result_of(A), result_of(B))
    before = store.snapshot()
    with pytest.raises((StoreError, sqlite3.Error)):
        record(store, result_of(A, FAILED), result_of(B, duration=[]))
    assert store.snapshot() == before
    record(store, result_of(A, FAILED), result_of(B))
    assert known_tests(store)[A].totals == {PASSED: 1, FAILED: 1}


# The report that covers a selection


def test_latest_report__order(store: ResultsStore) -> None:
    """The latest report is the one recorded last, regardless of its start time."""
    record(store, result_of(A), at=200.0)
    newest = record(store, result_of(A, FAILED), at=100.0)
    assert store.latest_report(EVERYTHING, failfast=False) == newest


def test_latest_report__full_run(store: ResultsStore) -> None:
    """A full run covers any selection; the report has only the selected tests."""
    record(store, result_of(A), result_of(B, FAILED))
    assert store.latest_report(ONLY_A, failfast=False) == make_report(
        result_of(A), selection=ONLY_A
    )


def test_latest_report__filtered(store: ResultsStore) -> None:
    """A filtered run covers only its own selection; others get an older full run."""
    full = record(store, result_of(A), result_of(B), at=100.0)
    filtered = record(store, result_of(A, FAILED), at=200.0, selection=ONLY_A)
    only_b = Selection(names=(B,))
    assert store.latest_report(ONLY_A, failfast=False) == filtered
    assert store.latest_report(EVERYTHING, failfast=False) == full
    assert store.latest_report(only_b, failfast=False) == make_report(
        result_of(B), selection=only_b, started_at=100.0
    )


def test_latest_report__no_match(store: ResultsStore) -> None:
    record(store, result_of(A), selection=ONLY_A)
    assert store.latest_report(EVERYTHING, failfast=True) is None
    assert store.latest_report(Selection(tags=("db",)), failfast=True) is None


def test_latest_report__stopped_by_failfast(store: ResultsStore) -> None:
    """A run stopped by fail-fast is returned only with `failfast=True`."""
    full = record(store, result_of(A, FAILED), result_of(B), at=100.0)
    stopped = record(
        store,
        result_of(A, FAILED),
        result_of(B, NOT_RUN),
        at=200.0,
        stop_reason=StopReason.FAIL_FAST,
    )
    assert store.latest_report(EVERYTHING, failfast=False) == full
    assert store.latest_report(EVERYTHING, failfast=True) == stopped


def test_latest_report__stopped_by_deadline(store: ResultsStore) -> None:
    record(store, result_of(A), result_of(B), at=100.0)
    stopped = record(
        store, result_of(A), result_of(B, NOT_RUN), at=200.0, stop_reason=StopReason.DEADLINE
    )
    assert store.latest_report(EVERYTHING, failfast=False) == stopped


# Pruning


def test_prune__runs_and_reports(store: ResultsStore) -> None:
    """The last 100 runs are kept with their outcomes, and the last few with their reports."""
    for number in range(KEPT_RUNS + 5):
        record(store, result_of(A, at=float(number)), at=float(number))
    assert count(store, "SELECT count(*) FROM runs") == KEPT_RUNS == 100
    assert count(store, "SELECT min(started_at) FROM runs") == 5
    assert count(store, "SELECT count(*) FROM outcomes") == KEPT_RUNS
    assert count(store, "SELECT min(started_at) FROM outcomes") == 5
    assert count(store, "SELECT count(*) FROM runs WHERE report IS NOT NULL") == KEPT_REPORTS
    assert store.snapshot().run_totals == {RunResult.PASSED: KEPT_RUNS + 5}
    assert known_tests(store)[A].totals == {PASSED: KEPT_RUNS + 5}


def test_prune__full_runs_are_kept_apart(store: ResultsStore) -> None:
    """Requests for a part of the tests do not displace the history of full runs."""
    for number in range(3):
        full = record(store, result_of(A), result_of(B), at=100.0 + number)
    for _ in range(KEPT_RUNS + 5):
        record(store, result_of(A, FAILED), at=300.0, selection=ONLY_A)
    assert count(store, "SELECT count(*) FROM runs WHERE is_full") == 3
    assert count(store, "SELECT count(*) FROM runs") == KEPT_RUNS + 3
    assert store.latest_report(EVERYTHING, failfast=False) == full
    assert store.past_results(B)[0].started_at == NOW
    assert len(store.past_results(B)) == 3
    assert len(store.past_results(A)) == KEPT_RUNS + 3
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert summary.started_at == 102.0


def test_prune__other_runs_are_kept_per_test(store: ResultsStore) -> None:
    """Frequent requests for a test do not displace the history of another."""
    record(store, result_of(B), selection=Selection(names=(B,)))
    for _ in range(KEPT_RUNS + 5):
        record(store, result_of(A), selection=ONLY_A)
    assert len(store.past_results(A)) == KEPT_RUNS
    assert len(store.past_results(B)) == 1
    assert count(store, "SELECT count(*) FROM runs") == KEPT_RUNS + 1


def test_prune__other_runs_in_total(store: ResultsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site with many tests cannot be made to store a run for each of them a hundred times."""
    monkeypatch.setattr("smoketest.store.recording.KEPT_OTHER_RUNS", 20)
    full = record(store, result_of(A))
    for number in range(40):
        name = f"polls.smoke.T.test_{number}"
        record(store, result_of(name), selection=Selection(names=(name,)))
    assert count(store, "SELECT count(*) FROM runs WHERE NOT is_full") == 20
    assert store.latest_report(EVERYTHING, failfast=False) == full


# Concurrency and recovery


def test_shared_store__other_objects(folder: StateFolder) -> None:
    report = record(SharedStore(folder), result_of(A))
    assert SharedStore(folder).latest_report(EVERYTHING, failfast=False) == report
    assert (folder.path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def record_times(path: Path, times: int) -> None:
    store = SharedStore(StateFolder(path, 0o600))
    for _ in range(times):
        record(store, result_of(A), result_of(B, FAILED))


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A pool of processes."""
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        yield executor


def assert_recorded(store: ResultsStore, times: int) -> None:
    assert store.snapshot().run_totals == {RunResult.FAILED: times}
    assert known_tests(store)[A].totals == {PASSED: times}
    assert known_tests(store)[B].totals == {FAILED: times}
    assert known_tests(store)[B].consecutive_failures == times


def test_shared_store__many_processes(pool: ProcessPoolExecutor, shared: SharedStore) -> None:
    """Concurrent processes lose no run: the totals are exact."""
    shared.snapshot()
    path = Path(shared.location).parent
    for future in [pool.submit(record_times, path, 30) for _ in range(2)]:
        future.result()
    assert_recorded(shared, 60)


def test_store__many_threads(store: ResultsStore) -> None:
    """Concurrent threads lose no run, and each snapshot is consistent."""
    store.snapshot()

    def record_and_read(_: int) -> None:
        record(store, result_of(A), result_of(B, FAILED))
        snapshot = store.snapshot()
        assert {sum(test.totals.values()) for test in snapshot.tests} == {
            snapshot.run_totals[RunResult.FAILED]
        }

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(record_and_read, range(40)))
    assert_recorded(store, 40)


def begin_stores(path: Path, at: float) -> list[str]:
    """Record a run in each of many new stores at fixed times and return the errors."""
    errors = []
    for number in range(NEW_STORES):
        while time() < at + number * 0.03:
            pass  # sleep() is too inexact to meet the other process
        try:
            record_times(path / str(number), 1)
        except StoreError as error:
            errors.append(str(error))
    return errors


def test_shared_store__created_concurrently(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    """Processes that create the same store concurrently all record to it."""
    for number in range(NEW_STORES):
        (tmp_path / str(number)).mkdir()
    at = time() + 0.2
    futures = [pool.submit(begin_stores, tmp_path, at) for _ in range(2)]
    assert [future.result() for future in futures] == [[], []]
    for number in range(NEW_STORES):
        assert_recorded(SharedStore(StateFolder(tmp_path / str(number), 0o600)), 2)


def record_filtered(path: Path, times: int) -> None:
    store = SharedStore(StateFolder(path, 0o600))
    for number in range(times):
        record(store, result_of(A), selection=Selection(names=(f"polls.{number % KEPT_REPORTS}",)))


def test_latest_report__concurrent_pruning(pool: ProcessPoolExecutor, shared: SharedStore) -> None:
    """A report that another process prunes is returned completely or not at all."""
    path = Path(shared.location).parent
    record_filtered(path, KEPT_REPORTS)
    oldest = Selection(names=("polls.0",))
    recording = pool.submit(record_filtered, path, 200)
    while not recording.done():
        report = shared.latest_report(oldest, failfast=False)
        assert report is None or report.selection == oldest
    recording.result()


def record_for_ever(path: Path, acknowledge: Connection) -> None:
    """Record runs of many tests and acknowledge each, until killed."""
    store = SharedStore(StateFolder(path, 0o600))
    results = [
        result_of(f"polls.smoke.PollsTest.test_{number}", message="-" * 500) for number in range(40)
    ]
    while True:
        record(store, *results)
        acknowledge.send(None)


def test_shared_store__killed_while_writing(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while recording keeps all earlier runs and no part of the current one."""
    for name in os.environ:
        if name.startswith("COVERAGE"):
            monkeypatch.delenv(name)  # a killed process leaves an incomplete data file
    path = Path(shared.location).parent
    runs = 0
    for _ in range(5):
        ours, theirs = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=record_for_ever, args=(path, theirs))
        process.start()
        theirs.close()
        assert ours.poll(60)
        sleep(random.uniform(0.0, 0.15))  # noqa: S311 - no secret
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        acknowledged = 0
        with closing(ours), suppress(EOFError):
            while True:
                ours.recv()
                acknowledged += 1
        with shared.connect() as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        snapshot = shared.snapshot()
        total = snapshot.run_totals[RunResult.PASSED]
        # One more run may have been recorded but not acknowledged.
        assert runs + acknowledged <= total <= runs + acknowledged + 1
        assert len(snapshot.tests) == 40
        assert all(test.totals == {PASSED: total} for test in snapshot.tests)
        assert shared.latest_report(EVERYTHING, failfast=False) is not None
        runs = total
    assert shared.set_aside == []


def test_shared_store__no_connection_is_kept(shared: SharedStore) -> None:
    """No connection stays open between operations, so that forked workers share none."""
    record(shared, result_of(A))
    with shared.connect() as database:
        database.execute("SELECT count(*) FROM runs")
    with pytest.raises(sqlite3.ProgrammingError):
        database.execute("SELECT count(*) FROM runs")


def test_memory_store__open_transaction_is_rolled_back() -> None:
    store = MemoryStore()
    with store.connect() as database:
        database.execute("BEGIN")
        database.execute("INSERT INTO facts VALUES ('half', 1)")
    assert count(store, "SELECT count(*) FROM facts") == 0


def read_after(store: ResultsStore, event: Callable[[], object]) -> None:
    """Call `event` between opening and reading the store."""
    with store.connect() as database:
        event()
        database.execute("SELECT * FROM tests").fetchall()


@pytest.mark.parametrize("content", [b"garbage", b"\0" * 8192, b"SQLite format 3\0garbage" * 500])
def test_shared_store__invalid_file(
    shared: SharedStore, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """A file that is not a store is set aside, logged once and replaced."""
    Path(shared.location).write_bytes(content)
    with caplog.at_level(logging.ERROR, "smoketest"), pytest.raises(StoreError) as caught:
        record(shared, result_of(A))
    assert str(caught.value).startswith(f"{shared.location} cannot be used: ")
    (aside,) = shared.set_aside
    assert aside.read_bytes() == content
    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert aside.name in entry.getMessage()
    assert shared.snapshot() == Snapshot(is_up=False, is_shared=True)
    assert len(caplog.records) == 1


def test_shared_store__corrupt_pages(shared: SharedStore) -> None:
    """A store with corrupt pages is set aside by the first operation that reads them."""
    record(shared, result_of(A), result_of(B))
    damage(Path(shared.location))
    damaged = Path(shared.location).read_bytes()
    with pytest.raises(StoreError, match="malformed"):
        shared.snapshot()
    (aside,) = shared.set_aside
    assert aside.read_bytes() == damaged
    assert shared.latest_results() == {}


def test_shared_store__corrupt_index(shared: SharedStore) -> None:
    """Corruption that only a write detects sets the store aside, too."""
    record(shared, result_of(A))
    page = count(shared, "SELECT rootpage FROM sqlite_master WHERE name = 'outcomes_of_run'")
    with Path(shared.location).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert set(known_tests(shared)) == {A}
    with pytest.raises(StoreError, match="malformed"):
        record(shared, result_of(A))
    assert len(shared.set_aside) == 1
    assert shared.snapshot() == Snapshot(is_up=False, is_shared=True)


def test_shared_store__is_up_after_next_full_run(shared: SharedStore) -> None:
    """A replaced store is down until the next completed full run."""
    Path(shared.location).write_bytes(b"garbage")
    with pytest.raises(StoreError):
        shared.snapshot()
    record(shared, result_of(A), selection=ONLY_A)
    record(shared, result_of(A), stop_reason=StopReason.DEADLINE)
    assert not shared.snapshot().is_up
    record(shared, result_of(A, FAILED))
    assert shared.snapshot().is_up
    assert len(shared.set_aside) == 1


def test_shared_store__set_aside_concurrently(folder: StateFolder) -> None:
    """If two processes detect corruption, one sets the file aside and the new store is kept."""
    first, second = SharedStore(folder), SharedStore(folder)
    record(first, result_of(A))
    damage(Path(first.location))

    def replace_by_second() -> None:
        with pytest.raises(StoreError):
            second.snapshot()
        record(second, result_of(B))

    with pytest.raises(StoreError, match="malformed"):
        read_after(first, replace_by_second)
    assert len(first.set_aside) == 1
    assert set(known_tests(first)) == {B}


def test_shared_store__not_set_aside_if_unopenable(shared: SharedStore) -> None:
    """A path that can no longer be opened is not considered corrupt."""
    record(shared, result_of(A))
    path = Path(shared.location)
    damage(path)

    def replace_by_directory() -> None:
        path.unlink()
        path.mkdir()

    with pytest.raises(StoreError, match="is not a regular file"):
        read_after(shared, replace_by_directory)
    assert path.is_dir()
    assert shared.set_aside == []


def test_shared_store__set_aside_fails(shared: SharedStore, tmp_path: Path) -> None:
    """Corruption in a directory that was removed raises StoreError."""
    record(shared, result_of(A))
    damage(Path(shared.location))
    with pytest.raises(StoreError):
        read_after(shared, lambda: shutil.rmtree(tmp_path))


def test_shared_store__newer_schema(
    shared: SharedStore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """No operation changes the store of a newer release."""
    record(shared, result_of(A))
    with closing(sqlite3.connect(shared.location)) as database:
        database.execute("ALTER TABLE tests ADD COLUMN mood TEXT")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = Path(shared.location).read_bytes()
    files = sorted(tmp_path.iterdir())
    for use in (
        shared.snapshot,
        shared.latest_results,
        lambda: shared.latest_report(EVERYTHING, failfast=False),
        lambda: shared.record(make_report(result_of(A))),
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == (
            f"{shared.location} was written by a newer django-smoketest (schema 4; this one knows"
            " 3). The file was not changed. Upgrade django-smoketest in this process or, after a"
            " downgrade, delete the file and its history."
        )
    assert Path(shared.location).read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files
    assert caplog.records == []


def test_shared_store__deleted_file(shared: SharedStore) -> None:
    """A deleted store is replaced by an empty one that is up."""
    record(shared, result_of(A))
    Path(shared.location).unlink()
    assert shared.snapshot() == Snapshot(is_up=True, is_shared=True)
    record(shared, result_of(B))
    assert set(known_tests(shared)) == {B}


@pytest.mark.parametrize("with_wal", [True, False])
def test_shared_store__file_deleted_while_reading(shared: SharedStore, with_wal: bool) -> None:
    """An open reader keeps reading the deleted file; later operations use a new one."""
    record(shared, result_of(A))
    with shared.connect() as database:
        database.execute("BEGIN")
        assert database.execute("SELECT test FROM tests").fetchall() == [(A,)]
        Path(shared.location).unlink()
        if with_wal:
            for suffix in ("-wal", "-shm"):
                Path(f"{shared.location}{suffix}").unlink()
        record(shared, result_of(B))
        assert database.execute("SELECT test FROM tests").fetchall() == [(A,)]
    record(shared, result_of(B))
    assert set(known_tests(shared)) == {B}
    assert shared.set_aside == []
    with shared.connect() as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_shared_store__missing_directory(shared: SharedStore, tmp_path: Path) -> None:
    tmp_path.rmdir()
    with pytest.raises(StoreError, match="Set SMOKETEST_STATE_DIR"):
        record(shared, result_of(A))


def test_shared_store__full_disk(folder: StateFolder) -> None:
    """A full disk raises StoreError, and no part of the run is stored."""

    class FullStore(SharedStore):
        @contextmanager
        def connect(self) -> Iterator[sqlite3.Connection]:
            with super().connect() as database:
                database.execute("PRAGMA max_page_count = 1")  # no more than there are
                yield database

    store = FullStore(folder)
    assert store.snapshot().tests == ()
    many = [result_of(f"a.A.test_{number}") for number in range(200)]
    with pytest.raises(StoreError, match="cannot be written, because the disk is full"):
        record(store, *many)
    assert store.snapshot().tests == ()


def test_shared_store__corrupt_on_full_disk(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrupt store that cannot be replaced raises StoreError."""

    def is_full(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")  # without an error code

    record(shared, result_of(A))
    Path(shared.location).write_bytes(b"no database" * 1000)
    monkeypatch.setattr("smoketest.store.shared.make_schema", is_full)
    with pytest.raises(StoreError, match="database or disk is full"):
        shared.snapshot()


def test_shared_store__busy(shared: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer raises StoreError after BUSY_TIMEOUT; readers do not wait."""
    monkeypatch.setattr("smoketest.store.shared.BUSY_TIMEOUT", 0.1)
    record(shared, result_of(A))
    with closing(sqlite3.connect(shared.location, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            record(shared, result_of(A))
        assert known_tests(shared)[A].totals == {PASSED: 1}
    record(shared, result_of(A))
    assert known_tests(shared)[A].totals == {PASSED: 2}
    assert shared.set_aside == []


def test_shared_store__busy_during_creation(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creating the store raises StoreError after BUSY_TIMEOUT."""
    monkeypatch.setattr("smoketest.store.shared.BUSY_TIMEOUT", 0.1)
    with closing(sqlite3.connect(shared.location, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            shared.snapshot()
    assert shared.snapshot() == Snapshot(is_up=True, is_shared=True)
    assert shared.set_aside == []
