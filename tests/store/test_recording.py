"""The results store: what a run leaves in it, and what it survives."""

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
#: In how many new stores two processes meet, to find faults of that moment.
NEW_STORES = 40
SPAWN = multiprocessing.get_context("spawn")

PASSED, FAILED, ERRORED = Outcome.PASSED, Outcome.FAILED, Outcome.ERRORED
TIMED_OUT, SKIPPED, NOT_RUN = Outcome.TIMED_OUT, Outcome.SKIPPED, Outcome.NOT_RUN


def of(test: str, outcome: Outcome = PASSED, *, at: float = NOW, **fields: object) -> Result:
    return make_result(outcome, make_declaration(test), started_at=at, **fields)


def record(store: ResultsStore, *results: Result, at: float = NOW, **fields: object) -> Report:
    report = make_report(*results, started_at=at, **fields)
    store.record(report)
    return report


def known(store: ResultsStore) -> dict[str, KnownTest]:
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


# What a run leaves in the store.


def test_location(shared: SharedStore, folder: StateFolder) -> None:
    """Messages can say where the results are."""
    assert shared.location == str(folder.path / FILE_NAME)
    assert MemoryStore().location == "the memory of this process"


def test_snapshot__nothing_recorded(store: ResultsStore) -> None:
    """A new store knows nothing; only the shared one is up, as totals of the other are lost."""
    assert store.snapshot() == Snapshot(is_up=store.is_shared, is_shared=store.is_shared)
    assert store.latest_results() == {}
    assert store.latest_report(EVERYTHING, failfast=False) is None


def test_record__full_run(store: ResultsStore) -> None:
    """A full run is known with its tests, their totals and when it succeeded."""
    a, b = of(A), of(B, SKIPPED)
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
    """Any report is read as it was recorded, and its tests with it."""
    store = MemoryStore()
    store.record(report)
    serves = report.stop_reason is not StopReason.INTERRUPT
    assert store.latest_report(report.selection, failfast=True) == (report if serves else None)
    ran = {r.id: r for r in report.results if not r.carried and r.outcome is not NOT_RUN}
    assert store.latest_results() == ran
    assert {test: item.totals for test, item in known(store).items()} == {
        test: {result.outcome: 1} for test, result in ran.items()
    }


def test_record__streak_and_totals(store: ResultsStore) -> None:
    """A streak begins with the first failure, goes on through skips, and ends with a success."""
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
        result = of(A, outcome, at=float(at))
        record(store, result, at=float(at))
        totals[outcome] = totals.get(outcome, 0) + 1
        assert known(store)[A] == KnownTest(
            result=result,
            consecutive_failures=failures,
            failing_since=failing_since,
            last_success_at=last_success_at,
            totals=totals,
        )


@pytest.mark.parametrize("outcome", [FAILED, ERRORED, TIMED_OUT])
def test_record__first_run_fails(store: ResultsStore, outcome: Outcome) -> None:
    """A test that fails the first time is failing since then, and never succeeded."""
    result = of(A, outcome)
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
    """The time of the last success stays when full runs fail or filtered ones pass."""
    record(store, of(A), at=100.0)
    record(store, of(A, FAILED), at=200.0)
    record(store, of(A), at=300.0, selection=ONLY_A)
    assert store.snapshot().last_success_at == 100.5
    record(store, of(A), at=400.0)
    assert store.snapshot().last_success_at == 400.5
    assert store.snapshot().run_totals == {RunResult.PASSED: 2, RunResult.FAILED: 1}


def test_record__warning(store: ResultsStore) -> None:
    """A test that is only a warning fails, and the run succeeds."""
    warning = make_declaration(A, severity=Severity.WARNING)
    record(store, make_result(FAILED, warning))
    assert known(store)[A].consecutive_failures == 1
    assert store.snapshot().last_success_at == NOW + 0.5
    assert store.snapshot().run_totals == {RunResult.PASSED: 1}


def test_record__filtered_run(store: ResultsStore) -> None:
    """A filtered run touches its own tests alone, and neither totals nor times of full runs."""
    record(store, of(A, FAILED), of(B), of(C), at=100.0)
    before = store.snapshot()
    a = of(A, FAILED, at=200.0)
    record(store, a, at=200.0, selection=ONLY_A)
    after = store.snapshot()
    assert after.last_full_run == before.last_full_run
    assert after.last_success_at == before.last_success_at
    assert after.run_totals == before.run_totals == {RunResult.FAILED: 1}
    assert known(store)[A] == make_known_test(
        a, consecutive_failures=2, failing_since=NOW, totals={FAILED: 2}
    )
    assert [test for test in after.tests if test.result.id != A] == [
        test for test in before.tests if test.result.id != A
    ]


@pytest.mark.parametrize("stop_reason", [StopReason.FAIL_FAST, StopReason.DEADLINE])
def test_record__run_cut_short(store: ResultsStore, stop_reason: StopReason) -> None:
    """A run cut short counts as aborted and touches the tests that ran; none is forgotten."""
    record(store, of(A), of(B), of(C), at=100.0)
    before = store.snapshot()
    a, b = of(A, FAILED, at=200.0), of(B, NOT_RUN, at=200.0)
    record(store, a, b, at=200.0, stop_reason=stop_reason)
    after = store.snapshot()
    assert after.last_full_run == before.last_full_run
    assert after.last_success_at == 100.5
    assert after.run_totals == {RunResult.PASSED: 1, RunResult.ABORTED: 1}
    assert set(known(store)) == {A, B, C}
    assert known(store)[A].result == a
    assert known(store)[A].totals == {PASSED: 1, FAILED: 1}
    assert known(store)[B].result == of(B)
    assert known(store)[B].totals == {PASSED: 1}


def test_record__filtered_run_cut_short(store: ResultsStore) -> None:
    """A filtered run that was cut short is no aborted run of the site."""
    record(store, of(A, FAILED), selection=ONLY_A, stop_reason=StopReason.FAIL_FAST)
    assert store.snapshot().run_totals == {}
    assert store.snapshot().last_full_run is None


def test_record__carried_result(store: ResultsStore) -> None:
    """A result that was carried into a run is neither counted nor forgotten."""
    record(store, of(A, FAILED), at=100.0)
    before = known(store)
    report = record(store, of(A, FAILED).as_carried_over(), of(B), at=200.0)
    assert known(store)[A] == before[A]
    assert known(store)[A].result.carried is False
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
def test_record__fixture_that_failed(store: ResultsStore, fixture: str) -> None:
    """It has a result like a test, and fails the run; it is none of the tests that were found."""
    record(store, of(A), of(fixture, ERRORED))
    assert set(known(store)) == {A, fixture}
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert (summary.outcomes, summary.passed) == ({PASSED: 1}, False)


def test_record__removed_test(store: ResultsStore) -> None:
    """A test that the site no longer has is forgotten with its totals by the next full run."""
    record(store, of(A), of(B, FAILED))
    record(store, of(A), selection=ONLY_A)
    assert set(known(store)) == {A, B}
    record(store, of(A))
    assert set(known(store)) == set(store.latest_results()) == {A}
    assert count(store, "SELECT count(*) FROM test_totals") == 1
    record(store, of(A), of(B, FAILED))
    assert known(store)[B].consecutive_failures == 1
    assert known(store)[B].totals == {FAILED: 1}


def test_record__import_that_hangs(store: ResultsStore) -> None:
    """Nothing else is found then, and nothing is forgotten: alerts that fire must not resolve."""
    record(store, of(A, FAILED), of(C))
    before = known(store)
    error = replace(make_collection_error("blog.smoke"), outcome=TIMED_OUT)
    record(store, error)
    after = known(store)
    assert set(after) == {A, C, "blog.smoke"}
    assert (after[A], after[C]) == (before[A], before[C])


def test_record__collection_error(store: ResultsStore) -> None:
    """The tests of a module that cannot be imported are out of sight, but not forgotten."""
    deep, alike = "blog.smoke.deep.DeepTest.test", "blog.smokey.SmokeyTest.test"
    record(store, of(A), of(C, FAILED), of(deep), of(alike))
    before = known(store)
    error = make_collection_error("blog.smoke")
    record(store, of(A), error)
    after = known(store)
    assert set(after) == {A, C, deep, "blog.smoke"}
    assert (after[C], after[deep]) == (before[C], before[deep])
    assert after["blog.smoke"].result == error
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert (summary.collection_errors, summary.passed) == (1, False)
    record(store, of(A), of(C), of(deep))
    assert set(known(store)) == {A, C, deep}
    summary = store.snapshot().last_full_run
    assert summary is not None
    assert summary.collection_errors == 0


def test_record__strange_strings(store: ResultsStore) -> None:
    """Whatever a test says is read as it was written: NUL, emoji, half a pair, a megabyte."""
    declaration = make_declaration(
        "polls.smoke.Pölls.test_日本", maintainer="\0'\";--", tags=("🔥",), databases=("défaut",)
    )
    strange = make_result(
        FAILED,
        declaration,
        message="\0 🔥 \ud800 \x1b[31m %s {} \r\n",
        exception="\N{RIGHT-TO-LEFT OVERRIDE}",
        traceback="🔥" * 2**18,
    )
    selection = Selection(names=("\0", "\udfff"), tags=("🔥",))
    report = record(store, strange, selection=selection, release="\ud800")
    assert store.latest_report(selection, failfast=False) == report
    assert store.latest_results() == {declaration.id: strange}
    assert store.snapshot().tests[0].result == strange


def test_record__cannot_be_stored(store: ResultsStore) -> None:
    """A run that fails to be recorded in the middle leaves nothing behind."""
    record(store, of(A), of(B))
    before = store.snapshot()
    with pytest.raises((StoreError, sqlite3.Error)):
        record(store, of(A, FAILED), of(B, duration=[]))
    assert store.snapshot() == before
    record(store, of(A, FAILED), of(B))
    assert known(store)[A].totals == {PASSED: 1, FAILED: 1}


# Which stored report answers.


def test_latest_report__newest(store: ResultsStore) -> None:
    """The newest report answers, as it was recorded last, whatever the clock said."""
    record(store, of(A), at=200.0)
    newest = record(store, of(A, FAILED), at=100.0)
    assert store.latest_report(EVERYTHING, failfast=False) == newest


def test_latest_report__narrowed(store: ResultsStore) -> None:
    """A full run answers any selection, with the tests that are selected."""
    record(store, of(A), of(B, FAILED))
    assert store.latest_report(ONLY_A, failfast=False) == make_report(of(A), selection=ONLY_A)


def test_latest_report__filtered(store: ResultsStore) -> None:
    """A filtered run answers its own selection; others get the older run that says it all."""
    full = record(store, of(A), of(B), at=100.0)
    filtered = record(store, of(A, FAILED), at=200.0, selection=ONLY_A)
    only_b = Selection(names=(B,))
    assert store.latest_report(ONLY_A, failfast=False) == filtered
    assert store.latest_report(EVERYTHING, failfast=False) == full
    assert store.latest_report(only_b, failfast=False) == make_report(
        of(B), selection=only_b, started_at=100.0
    )


def test_latest_report__nothing_that_covers(store: ResultsStore) -> None:
    """What no run was asked for has no report."""
    record(store, of(A), selection=ONLY_A)
    assert store.latest_report(EVERYTHING, failfast=True) is None
    assert store.latest_report(Selection(tags=("db",)), failfast=True) is None


def test_latest_report__cut_by_failfast(store: ResultsStore) -> None:
    """A run that fail-fast cut short answers those alone who ask for fail-fast."""
    full = record(store, of(A, FAILED), of(B), at=100.0)
    stop_reason = record(
        store, of(A, FAILED), of(B, NOT_RUN), at=200.0, stop_reason=StopReason.FAIL_FAST
    )
    assert store.latest_report(EVERYTHING, failfast=False) == full
    assert store.latest_report(EVERYTHING, failfast=True) == stop_reason


def test_latest_report__cut_by_deadline(store: ResultsStore) -> None:
    """A run that its deadline cut short is the latest that there is to say."""
    record(store, of(A), of(B), at=100.0)
    stop_reason = record(store, of(A), of(B, NOT_RUN), at=200.0, stop_reason=StopReason.DEADLINE)
    assert store.latest_report(EVERYTHING, failfast=False) == stop_reason


# How much is kept.


def test_prune__runs_and_reports(store: ResultsStore) -> None:
    """The latest hundred runs are kept, with outcomes, and the latest few in full."""
    for number in range(KEPT_RUNS + 5):
        record(store, of(A, at=float(number)), at=float(number))
    assert count(store, "SELECT count(*) FROM runs") == KEPT_RUNS == 100
    assert count(store, "SELECT min(started_at) FROM runs") == 5
    assert count(store, "SELECT count(*) FROM outcomes") == KEPT_RUNS
    assert count(store, "SELECT min(started_at) FROM outcomes") == 5
    assert count(store, "SELECT count(*) FROM runs WHERE report IS NOT NULL") == KEPT_REPORTS
    assert store.snapshot().run_totals == {RunResult.PASSED: KEPT_RUNS + 5}
    assert known(store)[A].totals == {PASSED: KEPT_RUNS + 5}


def test_prune__full_runs_are_kept_apart(store: ResultsStore) -> None:
    """Requests for a part of the tests do not displace the history of full runs."""
    for number in range(3):
        full = record(store, of(A), of(B), at=100.0 + number)
    for _ in range(KEPT_RUNS + 5):
        record(store, of(A, FAILED), at=300.0, selection=ONLY_A)
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
    record(store, of(B), selection=Selection(names=(B,)))
    for _ in range(KEPT_RUNS + 5):
        record(store, of(A), selection=ONLY_A)
    assert len(store.past_results(A)) == KEPT_RUNS
    assert len(store.past_results(B)) == 1
    assert count(store, "SELECT count(*) FROM runs") == KEPT_RUNS + 1


def test_prune__other_runs_in_total(store: ResultsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site with many tests cannot be made to store a run for each of them a hundred times."""
    monkeypatch.setattr("smoketest.store.recording.KEPT_OTHER_RUNS", 20)
    full = record(store, of(A))
    for number in range(40):
        name = f"polls.smoke.T.test_{number}"
        record(store, of(name), selection=Selection(names=(name,)))
    assert count(store, "SELECT count(*) FROM runs WHERE NOT is_full") == 20
    assert store.latest_report(EVERYTHING, failfast=False) == full


# What the file survives.


def test_shared_store__other_objects(folder: StateFolder) -> None:
    """What one object recorded, every other that has the folder reads."""
    report = record(SharedStore(folder), of(A))
    assert SharedStore(folder).latest_report(EVERYTHING, failfast=False) == report
    assert (folder.path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def record_times(path: Path, times: int) -> None:
    store = SharedStore(StateFolder(path, 0o600))
    for _ in range(times):
        record(store, of(A), of(B, FAILED))


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Other processes."""
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        yield executor


def assert_recorded(store: ResultsStore, times: int) -> None:
    assert store.snapshot().run_totals == {RunResult.FAILED: times}
    assert known(store)[A].totals == {PASSED: times}
    assert known(store)[B].totals == {FAILED: times}
    assert known(store)[B].consecutive_failures == times


def test_shared_store__many_processes(pool: ProcessPoolExecutor, shared: SharedStore) -> None:
    """Processes that record at once lose nothing: the totals are exact."""
    shared.snapshot()
    path = Path(shared.location).parent
    for future in [pool.submit(record_times, path, 30) for _ in range(2)]:
        future.result()
    assert_recorded(shared, 60)


def test_store__many_threads(store: ResultsStore) -> None:
    """Threads that record and read at once lose nothing either."""
    store.snapshot()

    def record_and_read(_: int) -> None:
        record(store, of(A), of(B, FAILED))
        snapshot = store.snapshot()
        assert {sum(test.totals.values()) for test in snapshot.tests} == {
            snapshot.run_totals[RunResult.FAILED]
        }

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(record_and_read, range(40)))
    assert_recorded(store, 40)


def begin_stores(path: Path, at: float) -> list[str]:
    """Record a run in each of many new stores, each at a moment of the clock; gives the errors."""
    errors = []
    for number in range(NEW_STORES):
        while time() < at + number * 0.03:
            pass  # to sleep would not be exact enough to meet the other process
        try:
            record_times(path / str(number), 1)
        except StoreError as error:
            errors.append(str(error))
    return errors


def test_shared_store__begun_by_several_processes(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    """Processes that find no store at the same moment all record in the one that they begin."""
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
        record(store, of(A), selection=Selection(names=(f"polls.{number % KEPT_REPORTS}",)))


def test_latest_report__pruned_at_this_moment(
    pool: ProcessPoolExecutor, shared: SharedStore
) -> None:
    """A report that another process prunes while it is looked for is found, or it is not."""
    path = Path(shared.location).parent
    record_filtered(path, KEPT_REPORTS)
    oldest = Selection(names=("polls.0",))
    recording = pool.submit(record_filtered, path, 200)
    while not recording.done():
        report = shared.latest_report(oldest, failfast=False)
        assert report is None or report.selection == oldest
    recording.result()


def record_for_ever(path: Path, acknowledge: Connection) -> None:
    """Record runs of many tests, and acknowledge each, until killed."""
    store = SharedStore(StateFolder(path, 0o600))
    results = [
        of(f"polls.smoke.PollsTest.test_{number}", message="-" * 500) for number in range(40)
    ]
    while True:
        record(store, *results)
        acknowledge.send(None)


def test_shared_store__killed_while_writing(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` in the middle of a run leaves every run before it, whole, and nothing of it."""
    for name in os.environ:
        if name.startswith("COVERAGE"):
            monkeypatch.delenv(name)  # its file would be left half written
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
        # One more may have been recorded and not acknowledged.
        assert runs + acknowledged <= total <= runs + acknowledged + 1
        assert len(snapshot.tests) == 40
        assert all(test.totals == {PASSED: total} for test in snapshot.tests)
        assert shared.latest_report(EVERYTHING, failfast=False) is not None
        runs = total
    assert shared.set_aside == []


def test_shared_store__not_shared_with_a_fork(shared: SharedStore) -> None:
    """No connection stays open between uses, so that forked workers share none."""
    record(shared, of(A))
    with shared.connect() as database:
        database.execute("SELECT count(*) FROM runs")
    with pytest.raises(sqlite3.ProgrammingError):
        database.execute("SELECT count(*) FROM runs")


def test_memory_store__reader_stops_half_way() -> None:
    """Whoever leaves a transaction of the memory store open does not keep others out."""
    store = MemoryStore()
    with store.connect() as database:
        database.execute("BEGIN")
        database.execute("INSERT INTO facts VALUES ('half', 1)")
    assert count(store, "SELECT count(*) FROM facts") == 0


def read_after(store: ResultsStore, happens: Callable[[], object]) -> None:
    """Read the store, after something happened between its opening and the reading."""
    with store.connect() as database:
        happens()
        database.execute("SELECT * FROM tests").fetchall()


@pytest.mark.parametrize("content", [b"garbage", b"\0" * 8192, b"SQLite format 3\0garbage" * 500])
def test_shared_store__corrupt_from_the_start(
    shared: SharedStore, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """A file that is no store is set aside and logged, once; a new store takes its place."""
    Path(shared.location).write_bytes(content)
    with caplog.at_level(logging.ERROR, "smoketest"), pytest.raises(StoreError) as caught:
        record(shared, of(A))
    assert str(caught.value).startswith(f"{shared.location} cannot be used: ")
    (aside,) = shared.set_aside
    assert aside.read_bytes() == content
    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert aside.name in entry.getMessage()
    assert shared.snapshot() == Snapshot(is_up=False, is_shared=True)
    assert len(caplog.records) == 1


def test_shared_store__corrupt_in_the_middle(shared: SharedStore) -> None:
    """A store with damaged pages is set aside by the first use that meets them."""
    record(shared, of(A), of(B))
    damage(Path(shared.location))
    damaged = Path(shared.location).read_bytes()
    with pytest.raises(StoreError, match="malformed"):
        shared.snapshot()
    (aside,) = shared.set_aside
    assert aside.read_bytes() == damaged
    assert shared.latest_results() == {}


def test_shared_store__corrupt_index(shared: SharedStore) -> None:
    """Damage that only a writer meets sets the store aside as well."""
    record(shared, of(A))
    page = count(shared, "SELECT rootpage FROM sqlite_master WHERE name = 'outcomes_of_run'")
    with Path(shared.location).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert set(known(shared)) == {A}
    with pytest.raises(StoreError, match="malformed"):
        record(shared, of(A))
    assert len(shared.set_aside) == 1
    assert shared.snapshot() == Snapshot(is_up=False, is_shared=True)


def test_shared_store__is_up_again_with_the_next_full_run(shared: SharedStore) -> None:
    """A store that had to begin anew counts as down until a full run has told how the site is."""
    Path(shared.location).write_bytes(b"garbage")
    with pytest.raises(StoreError):
        shared.snapshot()
    record(shared, of(A), selection=ONLY_A)
    record(shared, of(A), stop_reason=StopReason.DEADLINE)
    assert not shared.snapshot().is_up
    record(shared, of(A, FAILED))
    assert shared.snapshot().is_up
    assert len(shared.set_aside) == 1


def test_shared_store__set_aside_by_another_first(folder: StateFolder) -> None:
    """Of two that meet the damage at once, one sets the file aside; the new store stays."""
    first, second = SharedStore(folder), SharedStore(folder)
    record(first, of(A))
    damage(Path(first.location))

    def second_is_first() -> None:
        with pytest.raises(StoreError):
            second.snapshot()
        record(second, of(B))

    with pytest.raises(StoreError, match="malformed"):
        read_after(first, second_is_first)
    assert len(first.set_aside) == 1
    assert set(known(first)) == {B}


def test_shared_store__set_aside_cannot_be_decided(shared: SharedStore) -> None:
    """What cannot even be opened any more is not taken for corrupt, and left alone."""
    record(shared, of(A))
    path = Path(shared.location)
    damage(path)

    def make_folder() -> None:
        path.unlink()
        path.mkdir()

    with pytest.raises(StoreError, match="malformed"):
        read_after(shared, make_folder)
    assert path.is_dir()
    assert shared.set_aside == []


def test_shared_store__cannot_be_set_aside(shared: SharedStore, tmp_path: Path) -> None:
    """Damage in a folder that cannot be written any more is a `StoreError` like any other."""
    record(shared, of(A))
    damage(Path(shared.location))
    with pytest.raises(StoreError):
        read_after(shared, lambda: shutil.rmtree(tmp_path))


def test_shared_store__newer_schema(
    shared: SharedStore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The store of a newer release is left alone byte for byte, by every use of it."""
    record(shared, of(A))
    with closing(sqlite3.connect(shared.location)) as database:
        database.execute("ALTER TABLE tests ADD COLUMN mood TEXT")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = Path(shared.location).read_bytes()
    files = sorted(tmp_path.iterdir())
    for use in (
        shared.snapshot,
        shared.latest_results,
        lambda: shared.latest_report(EVERYTHING, failfast=False),
        lambda: shared.record(make_report(of(A))),
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == (
            f"{shared.location} was written by a newer django-smoketest (schema 3; this one knows"
            " 2). The file was not changed; upgrade django-smoketest in this process."
        )
    assert Path(shared.location).read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files
    assert caplog.records == []


def test_shared_store__file_is_deleted(shared: SharedStore) -> None:
    """A store that somebody deletes begins anew; nothing of it was corrupt."""
    record(shared, of(A))
    Path(shared.location).unlink()
    assert shared.snapshot() == Snapshot(is_up=True, is_shared=True)
    record(shared, of(B))
    assert set(known(shared)) == {B}


@pytest.mark.parametrize("log_too", [True, False])
def test_shared_store__file_is_deleted_while_in_use(shared: SharedStore, log_too: bool) -> None:
    """A file that is deleted under a reader stays readable to it; the next use begins anew."""
    record(shared, of(A))
    with shared.connect() as database:
        database.execute("BEGIN")
        assert database.execute("SELECT test FROM tests").fetchall() == [(A,)]
        Path(shared.location).unlink()
        if log_too:
            for suffix in ("-wal", "-shm"):
                Path(f"{shared.location}{suffix}").unlink()
        record(shared, of(B))
        assert database.execute("SELECT test FROM tests").fetchall() == [(A,)]
    record(shared, of(B))
    assert set(known(shared)) == {B}
    assert shared.set_aside == []
    with shared.connect() as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_shared_store__folder_is_gone(shared: SharedStore, tmp_path: Path) -> None:
    """A store whose folder is gone says so, with what to do."""
    tmp_path.rmdir()
    with pytest.raises(StoreError, match="Set SMOKETEST_STATE_DIR"):
        record(shared, of(A))


def test_shared_store__disk_is_full(folder: StateFolder) -> None:
    """It is said, and nothing of the run is there."""

    class FullStore(SharedStore):
        @contextmanager
        def connect(self) -> Iterator[sqlite3.Connection]:
            with super().connect() as database:
                database.execute("PRAGMA max_page_count = 1")  # no more than there are
                yield database

    store = FullStore(folder)
    assert store.snapshot().tests == ()
    many = [of(f"a.A.test_{number}") for number in range(200)]
    with pytest.raises(StoreError, match="database or disk is full"):
        record(store, *many)
    assert store.snapshot().tests == ()


def test_shared_store__corrupt_while_the_disk_is_full(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new store can be made in its place, which is no other error than that."""

    def is_full(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    record(shared, of(A))
    Path(shared.location).write_bytes(b"no database" * 1000)
    monkeypatch.setattr("smoketest.store.shared.make_schema", is_full)
    with pytest.raises(StoreError, match="database or disk is full"):
        shared.snapshot()


def test_shared_store__busy(shared: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot write for too long says so; readers do not wait, and nothing is set aside."""
    monkeypatch.setattr("smoketest.store.shared.BUSY_TIMEOUT", 0.1)
    record(shared, of(A))
    with closing(sqlite3.connect(shared.location, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            record(shared, of(A))
        assert known(shared)[A].totals == {PASSED: 1}
    record(shared, of(A))
    assert known(shared)[A].totals == {PASSED: 2}
    assert shared.set_aside == []


def test_shared_store__busy_from_the_start(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot begin the store, as another is at it for too long, says so too."""
    monkeypatch.setattr("smoketest.store.shared.BUSY_TIMEOUT", 0.1)
    with closing(sqlite3.connect(shared.location, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            shared.snapshot()
    assert shared.snapshot() == Snapshot(is_up=True, is_shared=True)
    assert shared.set_aside == []
