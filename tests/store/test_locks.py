"""Locks between threads and between processes, and what their holders' end does to them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

import pytest

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
    """The lock has one holder, who cannot take it twice; once released, it can be had again."""
    release = lock.acquire()
    assert release is not None
    assert lock.acquire() is None
    release()
    again = lock.acquire()
    assert again is not None
    again()


def test_acquire__waits_in_vain(lock: Lock) -> None:
    """A lock that is not released is waited for as long as was said, and no longer."""
    with lock.held():
        began = monotonic()
        assert lock.acquire(timeout=0.3) is None
        assert 0.3 <= monotonic() - began < 20


def test_acquire__waits_for_the_release(lock: Lock) -> None:
    """A lock that is released in time is had soon after."""
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


def test_acquire__another_thread_releases(lock: Lock) -> None:
    """A lock belongs to no thread: what one took, another may release, and it is free."""
    with ThreadPoolExecutor(1) as executor:
        release = executor.submit(lock.acquire).result()
        assert release is not None
        assert lock.acquire() is None
    release()
    with lock.held() as is_ours:
        assert is_ours


def test_acquire__many_threads(lock: Lock) -> None:
    """Never are two threads inside, whatever their number."""
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


def test_held__releases_after_an_error(lock: Lock) -> None:
    """An error inside leaves the lock free."""
    with pytest.raises(ZeroDivisionError), lock.held():
        raise ZeroDivisionError
    with lock.held() as is_ours:
        assert is_ours


def test_held__leaves_the_lock_of_others_alone(lock: Lock) -> None:
    """Whoever could not have the lock does not release it at the end either."""
    with lock.held():
        with lock.held() as is_ours:
            assert not is_ours
        assert lock.acquire() is None


def test_host_lock__two_objects(folder: StateFolder) -> None:
    """Objects of one name exclude each other within a process; another name is another lock."""
    with HostLock(folder, "run").held() as is_ours:
        assert is_ours
        assert HostLock(folder, "run").acquire() is None
        with HostLock(folder, "waiting").held() as other_is_ours:
            assert other_is_ours


@pytest.mark.parametrize("file_mode", [0o600, 0o660])
def test_host_lock__file_mode(tmp_path: Path, file_mode: int) -> None:
    """The file of the lock has the mode of the folder's files, whatever the umask."""
    before = os.umask(0o077)
    try:
        with HostLock(StateFolder(tmp_path, file_mode), "run").held():
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "run.lock").stat().st_mode & 0o777 == file_mode


def test_host_lock__another_process(folder: StateFolder) -> None:
    """A lock that another process holds cannot be had before that process ends."""
    lock = HostLock(folder, "run")
    with holder(HOLD, folder) as process:
        assert lock.acquire() is None
        assert lock.acquire(timeout=0.1) is None
        assert process.stdin
        process.stdin.close()
        with lock.held(timeout=60.0) as is_ours:
            assert is_ours


def test_host_lock__holder_is_killed(folder: StateFolder) -> None:
    """`kill -9` releases the lock, and whoever waits for it has it at once."""
    with holder(HOLD, folder) as process:
        timer = threading.Timer(0.2, process.kill)
        timer.start()
        began = monotonic()
        with HostLock(folder, "run").held(timeout=60.0) as is_ours:
            assert is_ours
            assert monotonic() - began < 20
        timer.join()


def test_host_lock__folder_is_gone(tmp_path: Path) -> None:
    """A folder that cannot be used is a `StateError`, with what to do."""
    with pytest.raises(StateError, match="Set SMOKETEST_STATE_DIR"):
        HostLock(StateFolder(tmp_path / "gone", 0o600), "run").acquire()


def test_host_lock__file_cannot_be_opened(folder: StateFolder) -> None:
    """A lock that cannot be opened, such as another user's, is a `StateError` too."""
    (folder.path / "run.lock").mkdir()
    with pytest.raises(StateError, match="Set SMOKETEST_STATE_DIR"):
        HostLock(folder, "run").acquire()


def test_host_lock__file_is_deleted_while_waited_for(folder: StateFolder) -> None:
    """Whoever waits for a file that is deleted gets the lock of the new one, alone."""
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
    """Take the lock again and again, and delete its file before leaving.

    Gives how often it was had, and how often somebody else was inside all the same. Nobody waits:
    what matters is a deletion between the opening and the locking of the file.
    """
    lock = HostLock(StateFolder(path, 0o600), "run")
    entries = intruders = 0
    began = monotonic()
    # A process that is never scheduled within the time goes on until it had the lock once.
    while (elapsed := monotonic() - began) < seconds or (not entries and elapsed < 60):
        with lock.held() as is_ours:
            if not is_ours:
                continue
            entries += 1
            try:
                (path / "inside").mkdir()
            except FileExistsError:
                intruders += 1
                continue
            (path / "inside").rmdir()
            (path / "run.lock").unlink(missing_ok=True)
    return entries, intruders


def test_host_lock__file_is_deleted_by_each_holder(tmp_path: Path) -> None:
    """Holders that delete the file as they leave never let two others in."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as executor:
        futures = [executor.submit(enter_and_delete, tmp_path, 2.0) for _ in range(3)]
        entries, intruders = zip(*[future.result() for future in futures], strict=True)
    assert all(entries)
    assert sum(intruders) == 0
