"""The metrics as bytes: the same as those of the collector, and made when results change."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.exporters.exposition import Exposition, finish_gzip, renderer, start_gzip
from smoketest.metrics import (
    ENCODINGS,
    OPEN_METRICS,
    TEXT,
    Context,
    Encoding,
    SmokeTestCollector,
    expose,
)
from smoketest.results import Outcome, Report, Selection
from smoketest.store import (
    FILE_NAME,
    MemoryStore,
    Render,
    ResultsStore,
    SharedStore,
    Snapshot,
    Status,
)
from smoketest.store.directory import StateFolder
from tests.builders import (
    NOW,
    PROPERTY,
    make_declaration,
    make_report,
    make_result,
    reports,
    snapshots,
    texts,
)

CONTEXT = Context(interval=60.0, page_url="https://shop.example/smoketest/", release="7")
UP = Status(is_up=True, generation=0, last_attempt_at=None, pause=None)

every_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.name)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path, file_mode=0o600)


@pytest.fixture(params=[SharedStore, MemoryStore])
def store(request: pytest.FixtureRequest, folder: StateFolder) -> ResultsStore:
    render = renderer(lambda: CONTEXT)
    return SharedStore(folder, render) if request.param is SharedStore else MemoryStore(render)


def process(folder: StateFolder, render: Render | None = None) -> Exposition:
    """What another process of the site has of its own."""
    return Exposition(SharedStore(folder, render or renderer(lambda: CONTEXT)))


def whole(snapshot: Snapshot, context: Context, encoding: Encoding) -> bytes:
    """The same page, as a registry would make it from the collector."""
    return expose(SmokeTestCollector(lambda: snapshot, lambda: context), encoding)


def scrape(
    exposition: Exposition,
    encoding: Encoding = TEXT,
    *,
    context: Context = CONTEXT,
    compressed: bool = False,
) -> bytes:
    """One scrape, decompressed if need be."""
    status = exposition.store.status()
    page = exposition.render(status, context, encoding, compressed=compressed)
    return decompressed(page) if compressed else page


def decompressed(page: bytes) -> bytes:
    """What every client reads from a gzip member, whichever way it does so."""
    at_once = gzip.decompress(page)
    with gzip.GzipFile(fileobj=io.BytesIO(page)) as file:
        assert file.read() == at_once
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    by_bytes = b"".join(stream.decompress(bytes([byte])) for byte in page) + stream.flush()
    assert by_bytes == at_once
    assert stream.eof
    assert stream.unused_data == b"", "a second member, which curl does not read"
    return at_once


def report(outcome: Outcome = Outcome.PASSED, at: float = NOW, *names: str) -> Report:
    declared = [make_declaration(name) for name in names or ["polls.smoke.T.test_a"]]
    return make_report(
        *(make_result(outcome, declaration, started_at=at) for declaration in declared),
        started_at=at,
    )


def run_total(page: bytes, result: str = "passed") -> float:
    (line,) = (
        line
        for line in page.decode().splitlines()
        if line.startswith(f'smoketest_runs_total{{result="{result}"}} ')
    )
    return float(line.rpartition(" ")[2])


# The same bytes.


def contexts() -> st.SearchStrategy[Context]:
    return st.builds(
        Context,
        interval=st.none() | st.floats(0.001, 1e6),
        page_url=texts(),
        release=texts(),
        abandoned_tests=st.integers(0, 99),
        is_paused=st.booleans(),
    )


@every_encoding
@PROPERTY
@given(snapshots(), contexts())
def test_render__any_snapshot(encoding: Encoding, snapshot: Snapshot, context: Context) -> None:
    """The page is, to the last byte, that of the whole collector, and so when decompressed."""
    exposition = Exposition(MemoryStore(lambda _: renderer(lambda: context)(snapshot)))
    status = replace(UP, is_up=snapshot.is_up)
    expected = whole(snapshot, context, encoding)
    assert exposition.render(status, context, encoding, compressed=False) == expected
    page = exposition.render(status, context, encoding, compressed=True)
    assert decompressed(page) == expected


@every_encoding
@PROPERTY
@given(st.lists(reports(), max_size=3))
def test_render__any_runs(encoding: Encoding, recorded: list[Report]) -> None:
    """What the store kept with the results is what a collector makes of them now."""
    store = MemoryStore(renderer(lambda: CONTEXT))
    exposition = Exposition(store)
    for run in [None, *recorded]:
        if run is not None:
            store.record(run)
        expected = whole(store.snapshot(), CONTEXT, encoding)
        assert scrape(exposition, encoding) == expected
        assert scrape(exposition, encoding, compressed=True) == expected


@PROPERTY
@given(st.binary(), st.binary())
def test_gzip__any_data(results: bytes, live: bytes) -> None:
    """The two parts are one member of both, whatever they are; the first can be used again."""
    started = start_gzip(results)
    assert decompressed(finish_gzip(started, live)) == results + live
    assert decompressed(finish_gzip(started, live * 2)) == results + live * 2
    assert gzip.decompress(finish_gzip(started, live)) == results + live


def test_gzip__large() -> None:
    """A page of some megabytes is whole, and much smaller."""
    data = b"".join(b'smoketest_test_success{test="%d"} 1.0\n' % n for n in range(60_000))
    page = finish_gzip(start_gzip(data), b"# EOF\n")
    assert gzip.decompress(page) == data + b"# EOF\n"
    assert len(page) < len(data) / 5


@pytest.mark.parametrize("compressed", [False, True])
def test_render__ends_once(store: ResultsStore, compressed: bool) -> None:
    """OpenMetrics ends with its end, which is nowhere else in the page."""
    store.record(report())
    page = scrape(Exposition(store), OPEN_METRICS, compressed=compressed)
    assert page.endswith(b"\n# EOF\n")
    assert page.count(b"# EOF") == 1


# What is made when.


class Counted:
    """Renders, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0
        self._render = renderer(lambda: CONTEXT)

    def __call__(self, snapshot: Snapshot) -> Mapping[str, bytes]:
        self.calls += 1
        return self._render(snapshot)


def test_render__once_a_run(folder: StateFolder) -> None:
    """All is rendered once, when a run is recorded, and not by any number of scrapes."""
    counted = Counted()
    store, exposition = SharedStore(folder, counted), process(folder, counted)
    other = process(folder, counted)
    for number in range(1, 4):
        store.record(report(at=NOW + number))
        for _ in range(5):
            for encoding in ENCODINGS:
                for compressed in (False, True):
                    page = scrape(exposition, encoding, compressed=compressed)
                    assert run_total(page) == number
                    assert run_total(scrape(other, encoding, compressed=compressed)) == number
        assert counted.calls == number


def test_render__reads_the_store_once_a_run(folder: StateFolder) -> None:
    """Between two runs a process keeps what it has read: it asks for the status alone."""
    SharedStore(folder, renderer(lambda: CONTEXT)).record(report())
    exposition = process(folder)
    before = scrape(exposition)
    with exposition.store.connect() as database:
        database.execute("DELETE FROM renditions")
        database.execute("DELETE FROM run_totals")
    assert scrape(exposition) == before
    assert scrape(process(folder)) != before


def test_render__run_of_another_process(folder: StateFolder) -> None:
    """The next scrape of every process shows the run that one of them recorded."""
    first, second = process(folder), process(folder)
    for number in range(1, 4):
        recorder = (first, second)[number % 2]
        recorder.store.record(report(at=NOW + number))
        assert run_total(scrape(first)) == number
        assert scrape(second) == scrape(first)


def test_render__filtered_run_and_lost_run(folder: StateFolder) -> None:
    """Other changes of the results are noticed as well."""
    exposition, other = process(folder), process(folder)
    scrape(exposition)
    named = replace(report(Outcome.FAILED), selection=Selection(names=("polls",)))
    other.store.record(named)
    assert b'smoketest_test_consecutive_failures{django_app="polls"' in scrape(exposition)
    other.store.begin(NOW)
    other.store.begin(NOW + 60)
    assert run_total(scrape(exposition), "aborted") == 1


def test_render__context_of_the_moment(store: ResultsStore) -> None:
    """What does not come from results is that of the scrape, without a run between."""
    store.record(report())
    exposition = Exposition(store)
    assert b"\nsmoketest_paused 0.0\n" in scrape(exposition)
    context = replace(CONTEXT, is_paused=True, abandoned_tests=3, release="8", interval=None)
    for compressed in (False, True):
        page = scrape(exposition, context=context, compressed=compressed)
        assert b"\nsmoketest_paused 1.0\n" in page
        assert b"\nsmoketest_abandoned_tests 3.0\n" in page
        assert b'release="8"' in page
        assert b"smoketest_run_interval_seconds" not in page


def test_render__store_begins_anew(folder: StateFolder) -> None:
    """A store that was deleted, and filled anew, is not taken for the one that was read."""
    exposition = process(folder)
    exposition.store.record(report(Outcome.PASSED))
    assert run_total(scrape(exposition)) == 1
    for suffix in ("", "-wal", "-shm"):
        (folder.path / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    process(folder).store.record(report(Outcome.FAILED))
    page = scrape(exposition)
    assert (run_total(page), run_total(page, "failed")) == (0, 1)


# What is not there.


LIVE = {
    "smoketest_run_interval_seconds",
    "smoketest_abandoned_tests",
    "smoketest_paused",
    "smoketest_results_store_up",
    "smoketest_build_info",
}


def families(page: bytes) -> set[str]:
    return {line.split()[2] for line in page.decode().splitlines() if line.startswith("# TYPE ")}


@every_encoding
@pytest.mark.parametrize("compressed", [False, True])
def test_render__no_status(store: ResultsStore, encoding: Encoding, compressed: bool) -> None:
    """A store that could not say its status gives the few families that need none."""
    store.record(report())
    page = Exposition(store).render(None, CONTEXT, encoding, compressed=compressed)
    if compressed:
        page = decompressed(page)
    assert families(page) == LIVE
    assert b"\nsmoketest_results_store_up 0.0\n" in page
    assert page.endswith(encoding.end)


@every_encoding
@pytest.mark.parametrize("compressed", [False, True])
def test_render__store_fails(folder: StateFolder, encoding: Encoding, compressed: bool) -> None:
    """So does one that fails right after its status was read; it heals when the store does."""
    exposition = process(folder)
    exposition.store.record(report())
    status = exposition.store.status()
    aside = folder.path / "aside"
    path = folder.path / FILE_NAME
    path.replace(aside)
    path.mkdir()
    page = exposition.render(status, CONTEXT, encoding, compressed=compressed)
    if compressed:
        page = decompressed(page)
    assert families(page) == LIVE
    assert b"\nsmoketest_results_store_up 0.0\n" in page
    assert page.endswith(encoding.end)
    path.rmdir()
    aside.replace(path)
    healed = scrape(exposition, encoding, compressed=compressed)
    assert healed == whole(exposition.store.snapshot(), CONTEXT, encoding)


@every_encoding
@pytest.mark.parametrize("compressed", [False, True])
def test_render__recorder_did_not_know_it(
    folder: StateFolder, encoding: Encoding, compressed: bool
) -> None:
    """What a process of another version recorded is rendered by the one that is asked."""
    SharedStore(folder, lambda _: {"text of another version": b"other"}).record(report())
    counted = Counted()
    exposition = process(folder, counted)
    for _ in range(3):
        page = scrape(exposition, encoding, compressed=compressed)
        assert page == whole(exposition.store.snapshot(), CONTEXT, encoding)
    assert counted.calls == 1
    exposition.store.record(report())
    SharedStore(folder).record(report(Outcome.FAILED))
    page = scrape(exposition, encoding, compressed=compressed)
    assert run_total(page, "failed") == 1, "that of the run before was kept"


def test_render__before_any_run(store: ResultsStore) -> None:
    """A new store has a page: no run yet, and it works."""
    page = scrape(Exposition(store))
    assert page == whole(store.snapshot(), CONTEXT, TEXT)
    assert "smoketest_last_run_success" not in families(page)


def test_rendition__generation_grows(store: ResultsStore) -> None:
    """Each run gives the results another generation, greater than those before."""
    name = next(iter(renderer(lambda: CONTEXT)(store.snapshot())))
    seen = [store.rendition(name)[0]]
    for number in range(3):
        store.record(report(at=NOW + number))
        generation, body = store.rendition(name)
        assert generation == store.status().generation
        assert body
        seen.append(generation)
    assert seen == sorted(set(seen))
