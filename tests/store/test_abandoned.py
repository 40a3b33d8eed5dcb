"""Tests whose threads still live: held, seen from every process, and gone with their process."""

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


def test_hold__nothing(abandoned: Abandoned) -> None:
    """Where no thread was given up on, none is reported."""
    assert abandoned.running() == {}
    assert abandoned.count() == 0


def test_hold__tests_of_a_thread(abandoned: Abandoned) -> None:
    """The tests of a thread are known, with the time at which they began, until it is over."""
    release = abandoned.hold(["a.A.test_1", "a.A.test_2"], 1000.5)
    assert abandoned.running() == {"a.A.test_1": 1000.5, "a.A.test_2": 1000.5}
    assert abandoned.count() == 1
    release()
    assert abandoned.running() == {}
    assert abandoned.count() == 0


def test_hold__several_threads(abandoned: Abandoned) -> None:
    """Each thread is held by itself: the end of one leaves the other, even of the same test."""
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


def test_hold__released_by_another_thread(abandoned: Abandoned) -> None:
    """The thread that was given up on releases what the coordinator held."""
    release = abandoned.hold(["a.A.test"], 1000.0)
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release).result()
    assert abandoned.count() == 0


def test_locally_abandoned__is_of_one_object() -> None:
    """Without a state folder nothing is shared."""
    LocallyAbandoned().hold(["a.A.test"], 1000.0)
    assert LocallyAbandoned().count() == 0


def test_on_host__leaves_no_file(folder: StateFolder) -> None:
    """What was held leaves nothing behind in the folder."""
    release = AbandonedOnHost(folder).hold(["a.A.test"], 1000.0)
    assert len(list(folder.path.iterdir())) == 2
    release()
    assert list(folder.path.iterdir()) == []


def test_on_host__another_process(folder: StateFolder) -> None:
    """Every process of the host sees what another holds, and that it is over."""
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


def test_on_host__process_is_killed(folder: StateFolder) -> None:
    """`kill -9` ends what the process held; those who look remove the files that it left."""
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


def test_on_host__file_is_not_written_yet(folder: StateFolder) -> None:
    """A thread whose tests are being written down this moment counts, and is no error."""
    abandoned = AbandonedOnHost(folder)
    release = abandoned.hold(["a.A.test"], 1000.0)
    (file,) = folder.path.glob("*.json")
    file.write_text("")
    assert abandoned.running() == {}
    assert abandoned.count() == 1
    release()
    assert abandoned.count() == 0


def test_on_host__folder_is_gone(tmp_path: Path) -> None:
    """A folder that cannot be written is no reason to fail: the test is over all the same."""
    abandoned = AbandonedOnHost(StateFolder(tmp_path / "gone", 0o600))
    release = abandoned.hold(["a.A.test"], 1000.0)
    assert abandoned.running() == {}
    assert abandoned.count() == 0
    release()


def test_on_host__folder_goes_while_held(folder: StateFolder) -> None:
    """Files that somebody deletes meanwhile are no error either."""
    abandoned = AbandonedOnHost(folder)
    release = abandoned.hold(["a.A.test"], 1000.0)
    for file in folder.path.iterdir():
        file.unlink()
    assert abandoned.count() == 0
    release()
    assert abandoned.count() == 0


def test_on_host__threads_come_and_go(folder: StateFolder) -> None:
    """Those who look while others hold and release never fail, and never end what is held."""
    abandoned = AbandonedOnHost(folder)
    kept = abandoned.hold(["kept.A.test"], 1000.0)

    def hold_and_release(number: int) -> None:
        for _ in range(30):
            abandoned.hold([f"a.A.test_{number}"], float(number))()

    with ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(hold_and_release, number) for number in range(2)]
        looks = [executor.submit(abandoned.running)]
        while not all(future.done() for future in futures):
            assert abandoned.running()["kept.A.test"] == 1000.0
            assert abandoned.count() >= 1
        assert all(look.result() for look in looks)
        for future in futures:
            future.result()
    kept()
    assert list(folder.path.glob("*.json")) == []
