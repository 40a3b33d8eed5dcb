"""Locks between threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

import pytest
from filelock import FileLock

from smoketest.store.directory import StateError, StateFolder
from smoketest.store.locks import HostLock, Lock, ProcessLock
from tests.holding import holder

HOLD = """
import sys
from pathlib import Path
from smoketest.store.locks import HostLock
from smoketest.store.directory import StateFolder
release = HostLock(StateFolder(Path(sys.argv[1]), 0o600), "run").acquire()
print("held" if release else "refused", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path, file_mode=0o600)


@pytest.fixture(params=[ProcessLock, HostLock])
def lock(request: pytest.FixtureRequest, folder: StateFolder) -> Lock:
    return ProcessLock() if request.param is ProcessLock else HostLock(folder, "run")


def test_acquire__is_exclusive(lock: Lock) -> None:
    """A lock has one holder and is not reentrant; it can be acquired after its release."""
    release = lock.acquire()
    assert release is not None
    assert lock.acquire() is None
    release()
    again = lock.acquire()
    assert again is not None
    again()


def test_acquire__timeout(lock: Lock) -> None:
    with lock.held():
        began = monotonic()
        assert lock.acquire(timeout=0.3) is None
        assert 0.3 <= monotonic() - began < 20


def test_acquire__waits_for_release(lock: Lock) -> None:
    """A lock that is released within the timeout is acquired."""
    release = lock.acquire()
    assert release is not None
    released_at: list[float] = []

    def release_later() -> None:
        released_at.append(monotonic())
        release()

    timer = threading.Timer(0.2, release_later)
    timer.start()
    with lock.held(timeout=60.0) as is_ours:
        assert is_ours
        assert 0 <= monotonic() - released_at[0] < 20
    timer.join()


def test_acquire__released_by_another_thread(lock: Lock) -> None:
    """A lock is not bound to the thread that acquired it."""
    with ThreadPoolExecutor(1) as executor:
        release = executor.submit(lock.acquire).result()
        assert release is not None
        assert lock.acquire() is None
    release()
    with lock.held() as is_ours:
        assert is_ours


def test_acquire__many_threads(lock: Lock) -> None:
    """At most one thread holds the lock."""
    inside = 0
    most = 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with lock.held(timeout=60.0) as is_ours:
            assert is_ours
            inside += 1
            most = max(most, inside)
            sleep(0.002)
            inside -= 1

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(enter, range(20)))
    assert most == 1


def test_held__released_after_an_exception(lock: Lock) -> None:
    with pytest.raises(ZeroDivisionError), lock.held():
        raise ZeroDivisionError
    with lock.held() as is_ours:
        assert is_ours


def test_held__not_acquired(lock: Lock) -> None:
    """A context that did not acquire the lock does not release it."""
    with lock.held():
        with lock.held() as is_ours:
            assert not is_ours
        assert lock.acquire() is None


def test_host_lock__no_debug_messages(
    folder: StateFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """filelock logs nothing about these locks; its messages about others are unchanged."""
    caplog.set_level("DEBUG")
    with HostLock(folder, "run").held() as is_held:
        assert is_held
        assert HostLock(folder, "run").acquire() is None
    assert caplog.records == []
    (tmp_path / "site").mkdir()
    with FileLock(tmp_path / "site" / "cron.lock"):
        assert {record.name for record in caplog.records} == {"filelock"}


def test_host_lock__two_objects(folder: StateFolder) -> None:
    """Objects with the same name exclude each other within a process; other names do not."""
    with HostLock(folder, "run").held() as is_ours:
        assert is_ours
        assert HostLock(folder, "run").acquire() is None
        with HostLock(folder, "waiting").held() as other_is_ours:
            assert other_is_ours


@pytest.mark.parametrize("file_mode", [0o600, 0o660])
def test_host_lock__file_mode(tmp_path: Path, file_mode: int) -> None:
    """The lock file has the mode of the state directory's files, regardless of the umask."""
    before = os.umask(0o077)
    try:
        with HostLock(StateFolder(tmp_path, file_mode), "run").held():
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "run.lock").stat().st_mode & 0o777 == file_mode


def test_host_lock__other_process(folder: StateFolder) -> None:
    """A lock that another process holds is released when that process ends."""
    lock = HostLock(folder, "run")
    with holder(HOLD, folder) as process:
        assert lock.acquire() is None
        assert lock.acquire(timeout=0.1) is None
        assert process.stdin
        process.stdin.close()
        with lock.held(timeout=60.0) as is_ours:
            assert is_ours


def test_host_lock__killed_holder(folder: StateFolder) -> None:
    """SIGKILL releases the lock, and a waiting process acquires it."""
    with holder(HOLD, folder) as process:
        timer = threading.Timer(0.2, process.kill)
        timer.start()
        began = monotonic()
        with HostLock(folder, "run").held(timeout=60.0) as is_ours:
            assert is_ours
            assert monotonic() - began < 20
        timer.join()


def test_host_lock__missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="Set SMOKETEST_STATE_DIR"):
        HostLock(StateFolder(tmp_path / "gone", 0o600), "run").acquire()


def test_host_lock__not_a_file(folder: StateFolder) -> None:
    (folder.path / "run.lock").mkdir()
    with pytest.raises(StateError, match=r"run\.lock is not a regular file"):
        HostLock(folder, "run").acquire()


def test_host_lock__file_deleted_while_waiting(folder: StateFolder) -> None:
    """After the lock file is deleted, a waiting process acquires the lock of a new file."""
    path = folder.path / "run.lock"
    release = HostLock(folder, "run").acquire()
    assert release is not None
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(HostLock(folder, "run").acquire, 60.0)
        sleep(0.1)
        path.unlink()
        release()
        release_other = waiting.result()
    assert release_other is not None
    assert path.exists()
    assert HostLock(folder, "run").acquire() is None
    release_other()


def enter_and_delete(path: Path, seconds: float) -> tuple[int, int]:
    """Acquire the lock repeatedly and delete its file before each release.

    Return how often the lock was acquired, and how often another process held it at the same time.
    The lock is acquired without a timeout, so that deletions occur between opening and locking the
    file.
    """
    lock = HostLock(StateFolder(path, 0o600), "run")
    entries = conflicts = 0
    began = monotonic()
    # A process that is not scheduled within the time continues until its first acquisition.
    while (elapsed := monotonic() - began) < seconds or (not entries and elapsed < 60):
        with lock.held() as is_ours:
            if not is_ours:
                continue
            entries += 1
            try:
                (path / "inside").mkdir()
            except FileExistsError:
                conflicts += 1
                continue
            (path / "inside").rmdir()
            (path / "run.lock").unlink(missing_ok=True)
    return entries, conflicts


def test_host_lock__file_deleted_by_holders(tmp_path: Path) -> None:
    """Holders that delete the lock file never hold the lock at the same time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as executor:
        futures = [executor.submit(enter_and_delete, tmp_path, 2.0) for _ in range(3)]
        entries, conflicts = zip(*[future.result() for future in futures], strict=True)
    assert all(entries)
    assert sum(conflicts) == 0
