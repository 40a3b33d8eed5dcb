"""A results store that can be read, but not written."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from smoketest import services
from smoketest.metrics import TEXT, expose
from smoketest.store import Pause, ResultsStore, SharedStore, StoreError
from smoketest.store.directory import StateFolder
from tests.builders import make_report, make_result
from tests.servers.exposition import Exposition
from tests.servers.mounts import full_disk, small_file_system

#: Seconds. Two intervals and the time until the next run is due.
OVERDUE = 3 * 60.0


@contextmanager
def file_size_limit() -> Iterator[None]:
    """Let no file grow, for which no privileges are needed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


Unwritable = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["file size", "disk"])
def unwritable(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any
) -> Iterator[Unwritable]:
    """A context manager during which the store of the site can be read, but not written."""
    folder = tmp_path / "state"
    folder.mkdir()
    settings.SMOKETEST_STATE_DIR = str(folder)

    @contextmanager
    def unwritable() -> Iterator[None]:
        # The files of the write-ahead log exist while a connection is open. Without them, the store
        # cannot be read either.
        with store().connect() as database:
            database.execute("SELECT 1 FROM facts").fetchall()
            with file_size_limit() if request.param == "file size" else full_disk(folder):
                yield

    if request.param == "file size":
        yield unwritable
        return
    with small_file_system(folder, size="2m", inodes=64):
        yield unwritable


def store() -> ResultsStore:
    return services.state().store


def is_up() -> bool:
    """Return what a scrape of the site and every other exporter report."""
    exporters = Exposition(expose(services.collector(), TEXT).decode())
    status = services.status(store())
    is_up = status is not None and status.is_up
    assert exporters.value("smoketest_results_store_up") == is_up
    return is_up


def begin(*, seconds_ago: float = 0.0) -> None:
    store().begin(time.time() - seconds_ago)
    store().record(make_report(make_result()))


def test_failed_write(unwritable: Unwritable, caplog: pytest.LogCaptureFixture) -> None:
    """The store is down from the first failed write until a write succeeds."""
    begin()
    before = store().snapshot()
    generation = store().status().generation
    assert is_up()
    with unwritable():
        with pytest.raises(StoreError):
            store().begin(time.time())
        assert not is_up()
        assert not is_up()
    assert is_up()
    assert store().write_error is None
    assert store().snapshot() == before
    assert store().status().generation == generation
    assert caplog.records == []  # the caller that failed logs the error


def test_failed_write__another_process_succeeds(unwritable: Unwritable) -> None:
    """A process whose write failed tests the store itself, whatever others have written."""
    begin()
    other = SharedStore(StateFolder(Path(store().location).parent, 0o600))
    with unwritable(), pytest.raises(StoreError):
        store().record(make_report(make_result()))
    other.record(make_report(make_result()))
    with unwritable():
        assert not is_up()
    assert is_up()


def test_overdue(unwritable: Unwritable, caplog: pytest.LogCaptureFixture) -> None:
    """A process that has not written yet tests the store if no other process starts a run."""
    begin(seconds_ago=OVERDUE)
    with unwritable():
        assert store().write_error is None
        assert not is_up()
        assert not is_up()
        assert len(caplog.records) == 1
        assert "The results store cannot be written." in caplog.text
    assert is_up()


def test_overdue__nothing_recorded(unwritable: Unwritable) -> None:
    """A store in which no run has ever started is tested as well."""
    store().snapshot()
    with unwritable():
        assert not is_up()
    assert is_up()


@pytest.mark.parametrize("reason", ["not overdue", "paused", "no interval"])
def test_not_overdue(unwritable: Unwritable, settings: Any, reason: str) -> None:
    """A scrape does not write while runs start as expected, or none are expected."""
    begin(seconds_ago=OVERDUE - 60 if reason == "not overdue" else 2 * OVERDUE)
    if reason == "paused":
        store().pause(Pause(until=time.time() + 600, reason="x"))
    if reason == "no interval":
        settings.SMOKETEST_INTERVAL = None
    with unwritable():
        assert is_up()
    with store().connect() as database:
        query = "SELECT count(*) FROM facts WHERE name = 'probed_at'"
        assert database.execute(query).fetchone() == (0,)


def test_probe__writes_as_much_as_a_run(tmp_path: Path, settings: Any) -> None:
    """The test of a store does not succeed on a disk that has only room for a small change."""
    settings.SMOKETEST_STATE_DIR = str(tmp_path)
    begin()
    size = 500_000
    with store().connect() as database:
        database.execute("INSERT INTO renditions VALUES ('large', ?)", [bytes(size)])
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store().probe()
        assert Path(f"{store().location}-wal").stat().st_size > size
