"""What the results store is asked at each scrape: attempts, lost runs, the pause."""

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


# The status


def test_status__nothing_recorded(store: ResultsStore) -> None:
    """A new store has no attempt and no pause; it is up if it is shared."""
    assert store.status() == Status(
        is_up=store.is_shared, generation=0, last_attempt_at=None, pause=None
    )


def test_status__generation(store: ResultsStore) -> None:
    """Each change of the results has another generation; a beginning and a pause change none."""
    seen = [store.status().generation]
    for number in range(3):
        store.begin(NOW + number)
        assert store.status().generation == seen[-1]
        store.record(make_report(make_result(), started_at=NOW + number))
        seen.append(store.status().generation)
    store.pause(Pause(until=time() + 60, reason="moving"))
    store.resume()
    assert store.status().generation == seen[-1]
    assert len(set(seen)) == 4


def test_status__other_objects(folder: StateFolder) -> None:
    """Another process knows all of it at once."""
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


def test_status__memory_is_of_one_store() -> None:
    """What one process keeps in its memory is neither shared nor up."""
    store = MemoryStore()
    store.record(make_report(make_result()))
    assert not store.status().is_up
    assert store.status().generation > 0
    assert MemoryStore().status().generation == 0


def test_status__store_fails(shared: SharedStore, tmp_path: Path) -> None:
    """Each of them says why it cannot be done."""
    shared.status()
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    pause = Pause(until=NOW, reason="moving")
    for ask in (
        shared.status,
        shared.resume,
        lambda: shared.begin(NOW),
        lambda: shared.pause(pause),
    ):
        with pytest.raises(StoreError, match=FILE_NAME):
            ask()


def test_status__begun_anew(shared: SharedStore, tmp_path: Path) -> None:
    """After a store was set aside as corrupt, it is down until all is known again."""
    shared.record(make_report(make_result()))
    assert shared.status().is_up
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        shared.status()
    assert not shared.status().is_up
    assert not SharedStore(StateFolder(tmp_path, 0o600)).status().is_up
    shared.record(make_report(make_result(), selection=ONLY_POLLS))
    assert not shared.status().is_up, "a filtered run does not know everything"
    shared.record(make_report(make_result(Outcome.NOT_RUN), stop_reason=StopReason.DEADLINE))
    assert not shared.status().is_up, "neither does one that was cut short"
    shared.record(make_report(make_result()))
    assert shared.status().is_up


# Runs that begin, and may be lost


def test_begin__recorded(store: ResultsStore) -> None:
    """A run that begins and is recorded is an attempt, counted by its result and not as lost."""
    for number, (outcome, result) in enumerate(
        [(Outcome.PASSED, PASSED), (Outcome.FAILED, FAILED)]
    ):
        assert store.begin(NOW + number) is None
        assert store.status().last_attempt_at == NOW + number
        store.record(make_report(make_result(outcome), started_at=NOW + number))
        assert store.status().last_attempt_at == NOW + number
        assert totals(store)[result] == 1
    assert totals(store) == {PASSED: 1, FAILED: 1}


def test_begin__lost(store: ResultsStore) -> None:
    """The next to begin is told of a run that nobody recorded, which counts as aborted once."""
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


def test_begin__several_lost(store: ResultsStore) -> None:
    """Each of several that were lost in a row is counted, and told of with its own time."""
    assert [store.begin(NOW + number) for number in range(4)] == [None, NOW, NOW + 1, NOW + 2]
    assert totals(store) == {ABORTED: 3}


@pytest.mark.parametrize("stop_reason", [StopReason.DEADLINE, StopReason.FAIL_FAST])
def test_begin__cut_short(store: ResultsStore, stop_reason: StopReason) -> None:
    """A run that was cut short was recorded: aborted, but not lost."""
    store.begin(NOW)
    store.record(make_report(make_result(Outcome.NOT_RUN), stop_reason=stop_reason))
    assert store.begin(NOW + 60) is None
    assert totals(store) == {ABORTED: 1}


def test_begin__filtered_run_meanwhile(store: ResultsStore) -> None:
    """A filtered run is no attempt, and does not make a lost run found."""
    store.begin(NOW)
    store.record(make_report(make_result(), selection=ONLY_POLLS, started_at=NOW + 10))
    assert store.status().last_attempt_at == NOW
    assert store.begin(NOW + 60) == NOW


def test_begin__recorded_without(store: ResultsStore) -> None:
    """A run whose beginning could not be written down is counted all the same."""
    store.record(make_report(make_result()))
    assert store.begin(NOW) is None
    assert totals(store) == {PASSED: 1}


def test_begin__lost_run_keeps_what_is_known(store: ResultsStore) -> None:
    """A lost run changes nothing but its total: no test's series, not the latest full run."""
    store.record(make_report(make_result()))
    before = store.snapshot()
    store.begin(NOW + 60)
    store.begin(NOW + 120)
    assert store.snapshot() == replace(before, run_totals={PASSED: 1, ABORTED: 1})


def test_begin__process_is_killed(folder: StateFolder, shared: SharedStore) -> None:
    """What a killed process began is known to all others, and survives it."""
    with holder(BEGIN, folder, str(NOW)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert shared.status().last_attempt_at == NOW
    assert shared.begin(NOW + 60) == NOW
    assert totals(shared) == {ABORTED: 1}


def begin(path: Path, started_at: float) -> float | None:
    return SharedStore(StateFolder(path, 0o600)).begin(started_at)


def test_begin__several_processes(tmp_path: Path) -> None:
    """No beginning is lost among processes that do so at once: each sees the one before."""
    moments = [NOW + number for number in range(12)]
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        lost = list(pool.map(begin, [tmp_path] * len(moments), moments))
    assert lost.count(None) == 1
    shared = SharedStore(StateFolder(tmp_path, 0o600))
    assert {*lost, shared.status().last_attempt_at} == {None, *moments}
    assert totals(shared) == {ABORTED: 11}


# The pause


def test_pause__until_resumed(store: ResultsStore) -> None:
    """A pause says until when and why; the latest one counts; resuming ends it, twice as well."""
    first = Pause(until=time() + 60, reason="moving the database")
    second = Pause(until=time() + 600, reason="it takes longer: 100 % more\n😀")
    for pause in (first, second, first):
        store.pause(pause)
        assert store.status().pause == pause
    for _ in range(2):
        store.resume()
        assert store.status().pause is None


def test_pause__expires(store: ResultsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause ends by itself."""
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
    """A pause that is over pauses nothing."""
    store.pause(Pause(until=time() - 1, reason="moved"))
    assert store.status().pause is None


def test_pause__survives_runs(store: ResultsStore) -> None:
    """A run that was going on when the operator paused does not end the pause."""
    store.begin(NOW)
    pause = Pause(until=time() + 60, reason="moving")
    store.pause(pause)
    store.record(make_report(make_result()))
    assert store.status().pause == pause
    assert store.status().last_attempt_at == NOW


@PROPERTY
@given(st.floats(1, 1e9), texts())
def test_pause__any(seconds: float, reason: str) -> None:
    """Whatever the operator writes is what everybody reads."""
    store = MemoryStore()
    pause = Pause(until=time() + seconds, reason=reason)
    store.pause(pause)
    assert store.status().pause == pause


def test_pause__many_threads(store: ResultsStore) -> None:
    """Those who ask while others pause and resume see a whole pause or none."""
    pauses = [Pause(until=time() + 60 + n, reason=str(n)) for n in range(10)]

    def change(pause: Pause) -> None:
        store.pause(pause)
        store.resume()

    with ThreadPoolExecutor(4) as pool:
        changes, seen = [], []
        for pause in pauses:
            changes.append(pool.submit(change, pause))
            seen.extend(pool.submit(store.status) for _ in range(4))
    for done in changes:
        done.result()
    assert {status.result().pause for status in seen} <= {None, *pauses}
    assert store.status().pause is None
