"""Status of the results store: attempts, lost runs and pauses."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.results import Outcome, RunResult, Selection, StopReason
from smoketest.store import (
    FILE_NAME,
    MemoryStore,
    Pause,
    ResultsStore,
    SharedStore,
    Status,
    StoreError,
)
from smoketest.store.directory import StateFolder
from tests.builders import NOW, PROPERTY, make_report, make_result, texts
from tests.holding import holder

ABORTED, PASSED, FAILED = RunResult.ABORTED, RunResult.PASSED, RunResult.FAILED
ONLY_POLLS = Selection(names=("polls",))
SPAWN = multiprocessing.get_context("spawn")
BEGIN = """
import sys
import time
from pathlib import Path
from smoketest.store.directory import StateFolder
from smoketest.store import SharedStore
SharedStore(StateFolder(Path(sys.argv[1]), 0o600)).begin(float(sys.argv[2]))
print("held", flush=True)
time.sleep(60)
"""


def totals(store: ResultsStore) -> dict[RunResult, int]:
    return dict(store.snapshot().run_totals)


# Status


def test_status__empty_store(store: ResultsStore) -> None:
    """A new store has no attempt and no pause; it is up if it is shared."""
    assert store.status() == Status(
        is_up=store.is_shared, generation=0, last_attempt_at=None, pause=None
    )


def test_status__generation(store: ResultsStore) -> None:
    """The generation changes with each recorded run, not with a start or a pause."""
    generations = [store.status().generation]
    for number in range(3):
        store.begin(NOW + number)
        assert store.status().generation == generations[-1]
        store.record(make_report(make_result(), started_at=NOW + number))
        generations.append(store.status().generation)
    store.pause(Pause(until=time() + 60, reason="moving"))
    store.resume()
    assert store.status().generation == generations[-1]
    assert len(set(generations)) == 4


def test_status__other_objects(folder: StateFolder) -> None:
    """Changes are visible to other processes."""
    first, second = SharedStore(folder), SharedStore(folder)
    first.begin(NOW)
    pause = Pause(until=time() + 60, reason="moving")
    first.pause(pause)
    first.record(make_report(make_result()))
    assert second.status() == first.status()
    assert second.status().last_attempt_at == NOW
    assert second.status().pause == pause
    second.resume()
    assert first.status().pause is None


def test_status__memory_store() -> None:
    """The memory store is neither up nor shared between objects."""
    store = MemoryStore()
    store.record(make_report(make_result()))
    assert not store.status().is_up
    assert store.status().generation > 0
    assert MemoryStore().status().generation == 0


def test_status__unusable_store(shared: SharedStore, tmp_path: Path) -> None:
    """Every operation raises StoreError with the reason."""
    shared.status()
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    pause = Pause(until=NOW, reason="moving")
    for operation in (
        shared.status,
        shared.resume,
        lambda: shared.begin(NOW),
        lambda: shared.pause(pause),
    ):
        with pytest.raises(StoreError, match=FILE_NAME):
            operation()


def test_status__after_reset(shared: SharedStore, tmp_path: Path) -> None:
    """After a corrupt store was replaced, it is down until the next completed full run."""
    shared.record(make_report(make_result()))
    assert shared.status().is_up
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        shared.status()
    assert not shared.status().is_up
    assert not SharedStore(StateFolder(tmp_path, 0o600)).status().is_up
    shared.record(make_report(make_result(), selection=ONLY_POLLS))
    assert not shared.status().is_up, "a filtered run is not a full run"
    shared.record(make_report(make_result(Outcome.NOT_RUN), stop_reason=StopReason.DEADLINE))
    assert not shared.status().is_up, "a stopped run is not a full run"
    shared.record(make_report(make_result()))
    assert shared.status().is_up


# Starts of runs


def test_begin__recorded(store: ResultsStore) -> None:
    """A recorded run is counted by its result, and not as aborted."""
    for number, (outcome, result) in enumerate(
        [(Outcome.PASSED, PASSED), (Outcome.FAILED, FAILED)]
    ):
        assert store.begin(NOW + number) is None
        assert store.status().last_attempt_at == NOW + number
        store.record(make_report(make_result(outcome), started_at=NOW + number))
        assert store.status().last_attempt_at == NOW + number
        assert totals(store)[result] == 1
    assert totals(store) == {PASSED: 1, FAILED: 1}


def test_begin__lost_run(store: ResultsStore) -> None:
    """A run that was not recorded is returned by the next start and counted once as aborted."""
    assert store.begin(NOW) is None
    assert totals(store) == {}
    before = store.status().generation
    assert store.begin(NOW + 60) == NOW
    assert store.status().last_attempt_at == NOW + 60
    assert store.status().generation != before, "the totals changed"
    assert totals(store) == {ABORTED: 1}
    store.record(make_report(make_result(), started_at=NOW + 60))
    assert store.begin(NOW + 120) is None
    assert totals(store) == {ABORTED: 1, PASSED: 1}


def test_begin__several_lost_runs(store: ResultsStore) -> None:
    """Each lost run is returned and counted."""
    assert [store.begin(NOW + number) for number in range(4)] == [None, NOW, NOW + 1, NOW + 2]
    assert totals(store) == {ABORTED: 3}


@pytest.mark.parametrize("stop_reason", [StopReason.DEADLINE, StopReason.FAIL_FAST])
def test_begin__stopped_run(store: ResultsStore, stop_reason: StopReason) -> None:
    """A run that was stopped is counted as aborted and is not lost."""
    store.begin(NOW)
    store.record(make_report(make_result(Outcome.NOT_RUN), stop_reason=stop_reason))
    assert store.begin(NOW + 60) is None
    assert totals(store) == {ABORTED: 1}


def test_begin__filtered_run(store: ResultsStore) -> None:
    """A filtered run is not an attempt and does not complete a lost one."""
    store.begin(NOW)
    store.record(make_report(make_result(), selection=ONLY_POLLS, started_at=NOW + 10))
    assert store.status().last_attempt_at == NOW
    assert store.begin(NOW + 60) == NOW


def test_begin__recorded_without_start(store: ResultsStore) -> None:
    """A run whose start was not stored is counted."""
    store.record(make_report(make_result()))
    assert store.begin(NOW) is None
    assert totals(store) == {PASSED: 1}


def test_begin__lost_run_changes_only_totals(store: ResultsStore) -> None:
    store.record(make_report(make_result()))
    before = store.snapshot()
    store.begin(NOW + 60)
    store.begin(NOW + 120)
    assert store.snapshot() == replace(before, run_totals={PASSED: 1, ABORTED: 1})


def test_begin__killed_process(folder: StateFolder, shared: SharedStore) -> None:
    """The start of a run survives the process."""
    with holder(BEGIN, folder, str(NOW)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert shared.status().last_attempt_at == NOW
    assert shared.begin(NOW + 60) == NOW
    assert totals(shared) == {ABORTED: 1}


def begin(path: Path, started_at: float) -> float | None:
    return SharedStore(StateFolder(path, 0o600)).begin(started_at)


def test_begin__several_processes(tmp_path: Path) -> None:
    """Concurrent starts are serialized: each returns the previous one."""
    timestamps = [NOW + number for number in range(12)]
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        lost = list(pool.map(begin, [tmp_path] * len(timestamps), timestamps))
    assert lost.count(None) == 1
    shared = SharedStore(StateFolder(tmp_path, 0o600))
    assert {*lost, shared.status().last_attempt_at} == {None, *timestamps}
    assert totals(shared) == {ABORTED: 11}


# Pauses


def test_pause__until_resumed(store: ResultsStore) -> None:
    """The latest pause replaces the others; resuming is idempotent."""
    first = Pause(until=time() + 60, reason="moving the database")
    second = Pause(until=time() + 600, reason="it takes longer: 100 % more\n😀")
    for pause in (first, second, first):
        store.pause(pause)
        assert store.status().pause == pause
    for _ in range(2):
        store.resume()
        assert store.status().pause is None


def test_pause__expires(store: ResultsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [NOW]
    monkeypatch.setattr("smoketest.store.base.time", lambda: now[0])
    store.pause(Pause(until=NOW + 60, reason="moving"))
    now[0] = NOW + 59.9
    assert store.status().pause
    now[0] = NOW + 60
    assert store.status().pause is None
    later = Pause(until=NOW + 120, reason="again")
    store.pause(later)
    assert store.status().pause == later


def test_pause__in_the_past(store: ResultsStore) -> None:
    store.pause(Pause(until=time() - 1, reason="moved"))
    assert store.status().pause is None


def test_pause__survives_runs(store: ResultsStore) -> None:
    """Recording a run does not end a pause."""
    store.begin(NOW)
    pause = Pause(until=time() + 60, reason="moving")
    store.pause(pause)
    store.record(make_report(make_result()))
    assert store.status().pause == pause
    assert store.status().last_attempt_at == NOW


@PROPERTY
@given(st.floats(1, 1e9), texts())
def test_pause__any_reason(seconds: float, reason: str) -> None:
    store = MemoryStore()
    pause = Pause(until=time() + seconds, reason=reason)
    store.pause(pause)
    assert store.status().pause == pause


def test_pause__many_threads(store: ResultsStore) -> None:
    """Concurrent readers see a complete pause or none."""
    pauses = [Pause(until=time() + 60 + n, reason=str(n)) for n in range(10)]

    def change(pause: Pause) -> None:
        store.pause(pause)
        store.resume()

    with ThreadPoolExecutor(4) as pool:
        changes, statuses = [], []
        for pause in pauses:
            changes.append(pool.submit(change, pause))
            statuses.extend(pool.submit(store.status) for _ in range(4))
    for done in changes:
        done.result()
    assert {status.result().pause for status in statuses} <= {None, *pauses}
    assert store.status().pause is None
