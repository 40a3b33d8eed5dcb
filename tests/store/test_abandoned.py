"""The register of abandoned tests, shared by the processes of a host."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smoketest.store.abandoned import AbandonedOnHost, LocallyAbandoned
from smoketest.store.directory import StateFolder
from tests.holding import holder

HOLD = """
import sys
from pathlib import Path
from smoketest.store.abandoned import AbandonedOnHost
from smoketest.store.directory import StateFolder
release = AbandonedOnHost(StateFolder(Path(sys.argv[1]), 0o600)).hold(["a.A.test"], 1000.5)
print("held", flush=True)
sys.stdin.readline()
release()
print("released", flush=True)
sys.stdin.readline()
"""
Abandoned = AbandonedOnHost | LocallyAbandoned


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path, file_mode=0o600)


@pytest.fixture(params=[AbandonedOnHost, LocallyAbandoned])
def abandoned(request: pytest.FixtureRequest, folder: StateFolder) -> Abandoned:
    return LocallyAbandoned() if request.param is LocallyAbandoned else AbandonedOnHost(folder)


def test_hold__empty(abandoned: Abandoned) -> None:
    assert abandoned.running() == {}
    assert abandoned.count() == 0


def test_hold__tests_of_one_thread(abandoned: Abandoned) -> None:
    """The tests of a thread are listed with their start time until they are released."""
    release = abandoned.hold(["a.A.test_1", "a.A.test_2"], 1000.5)
    assert abandoned.running() == {"a.A.test_1": 1000.5, "a.A.test_2": 1000.5}
    assert abandoned.count() == 1
    release()
    assert abandoned.running() == {}
    assert abandoned.count() == 0


def test_hold__several_threads(abandoned: Abandoned) -> None:
    """Each thread is released separately, even if two run the same test."""
    release_first = abandoned.hold(["a.A.test"], 1000.0)
    release_second = abandoned.hold(["a.A.test"], 1000.0)
    release_other = abandoned.hold(["b.B.test"], 2000.0)
    assert abandoned.count() == 3
    assert abandoned.running() == {"a.A.test": 1000.0, "b.B.test": 2000.0}
    release_first()
    assert abandoned.count() == 2
    assert abandoned.running() == {"a.A.test": 1000.0, "b.B.test": 2000.0}
    release_second()
    assert abandoned.running() == {"b.B.test": 2000.0}
    release_other()
    assert abandoned.count() == 0


def test_hold__released_in_another_thread(abandoned: Abandoned) -> None:
    """The abandoned thread itself releases what the coordinator held."""
    release = abandoned.hold(["a.A.test"], 1000.0)
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release).result()
    assert abandoned.count() == 0


def test_locally_abandoned__is_not_shared() -> None:
    LocallyAbandoned().hold(["a.A.test"], 1000.0)
    assert LocallyAbandoned().count() == 0


def test_on_host__removes_its_files(folder: StateFolder) -> None:
    release = AbandonedOnHost(folder).hold(["a.A.test"], 1000.0)
    assert len(list(folder.path.iterdir())) == 2
    release()
    assert list(folder.path.iterdir()) == []


def test_on_host__other_process(folder: StateFolder) -> None:
    """A test that another process holds is listed until that process releases it."""
    abandoned = AbandonedOnHost(folder)
    with holder(HOLD, folder) as process:
        assert process.stdin
        assert process.stdout
        assert abandoned.running() == {"a.A.test": 1000.5}
        assert abandoned.count() == 1
        process.stdin.write("release\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"
        assert abandoned.running() == {}
        assert abandoned.count() == 0


def test_on_host__killed_process(folder: StateFolder) -> None:
    """SIGKILL releases what the process held; the next reader removes its files."""
    abandoned = AbandonedOnHost(folder)
    with holder(HOLD, folder) as first, holder(HOLD, folder):
        first.kill()
        first.wait()
        assert len(list(folder.path.glob("*.json"))) == 2
        assert abandoned.count() == 1
        assert len(list(folder.path.glob("*.json"))) == 1
        assert abandoned.running() == {"a.A.test": 1000.5}
    assert abandoned.running() == {}
    assert list(folder.path.iterdir()) == []


def test_on_host__incomplete_file(folder: StateFolder) -> None:
    """A file that is being written counts as an abandoned thread without tests."""
    abandoned = AbandonedOnHost(folder)
    release = abandoned.hold(["a.A.test"], 1000.0)
    (file,) = folder.path.glob("*.json")
    file.write_text("")
    assert abandoned.running() == {}
    assert abandoned.count() == 1
    release()
    assert abandoned.count() == 0


def test_on_host__missing_directory(tmp_path: Path) -> None:
    """A directory that cannot be written raises nothing."""
    abandoned = AbandonedOnHost(StateFolder(tmp_path / "gone", 0o600))
    release = abandoned.hold(["a.A.test"], 1000.0)
    assert abandoned.running() == {}
    assert abandoned.count() == 0
    release()


def test_on_host__files_deleted_while_held(folder: StateFolder) -> None:
    """Files deleted by another process raise nothing."""
    abandoned = AbandonedOnHost(folder)
    release = abandoned.hold(["a.A.test"], 1000.0)
    for file in folder.path.iterdir():
        file.unlink()
    assert abandoned.count() == 0
    release()
    assert abandoned.count() == 0


def test_on_host__concurrent_readers(folder: StateFolder) -> None:
    """Readers do not fail while other threads hold and release, and never release a held test."""
    abandoned = AbandonedOnHost(folder)
    kept = abandoned.hold(["kept.A.test"], 1000.0)

    def hold_and_release(number: int) -> None:
        for _ in range(30):
            abandoned.hold([f"a.A.test_{number}"], float(number))()

    with ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(hold_and_release, number) for number in range(2)]
        reads = [executor.submit(abandoned.running)]
        while not all(future.done() for future in futures):
            assert abandoned.running()["kept.A.test"] == 1000.0
            assert abandoned.count() >= 1
        assert all(read.result() for read in reads)
        for future in futures:
            future.result()
    kept()
    assert list(folder.path.glob("*.json")) == []
