"""Exposition: identical to the output of the collector, but rendered only when results change."""

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


def exposition_of_process(folder: StateFolder, render: Render | None = None) -> Exposition:
    """Return the exposition of another exposition_of_process of the site."""
    return Exposition(SharedStore(folder, render or renderer(lambda: CONTEXT)))


def rendered_by_collector(snapshot: Snapshot, context: Context, encoding: Encoding) -> bytes:
    """Return the page as a registry would render it from the collector."""
    return expose(SmokeTestCollector(lambda: snapshot, lambda: context), encoding)


def scrape(
    exposition: Exposition,
    encoding: Encoding = TEXT,
    *,
    context: Context = CONTEXT,
    compressed: bool = False,
) -> bytes:
    """Return a page, decompressed if necessary."""
    status = exposition.store.status()
    page = exposition.render(status, context, encoding, compressed=compressed)
    return decompressed(page) if compressed else page


def decompressed(page: bytes) -> bytes:
    """Decompress a gzip member in several ways, checking that they agree."""
    at_once = gzip.decompress(page)
    with gzip.GzipFile(fileobj=io.BytesIO(page)) as file:
        assert file.read() == at_once
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    by_bytes = b"".join(stream.decompress(bytes([byte])) for byte in page) + stream.flush()
    assert by_bytes == at_once
    assert stream.eof
    assert stream.unused_data == b"", "curl would not read a second gzip member"
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


# Same bytes


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
    """The page is identical to the output of the collector, both plain and compressed."""
    exposition = Exposition(MemoryStore(lambda _: renderer(lambda: context)(snapshot)))
    status = replace(UP, is_up=snapshot.is_up)
    expected = rendered_by_collector(snapshot, context, encoding)
    assert exposition.render(status, context, encoding, compressed=False) == expected
    page = exposition.render(status, context, encoding, compressed=True)
    assert decompressed(page) == expected


@every_encoding
@PROPERTY
@given(st.lists(reports(), max_size=3))
def test_render__any_runs(encoding: Encoding, recorded: list[Report]) -> None:
    """The rendition stored with the results is what a collector would return now."""
    store = MemoryStore(renderer(lambda: CONTEXT))
    exposition = Exposition(store)
    for run in [None, *recorded]:
        if run is not None:
            store.record(run)
        expected = rendered_by_collector(store.snapshot(), CONTEXT, encoding)
        assert scrape(exposition, encoding) == expected
        assert scrape(exposition, encoding, compressed=True) == expected


@PROPERTY
@given(st.binary(), st.binary())
def test_gzip__any_data(results: bytes, live: bytes) -> None:
    """The two parts form a single gzip member, and the first part can be reused."""
    started = start_gzip(results)
    assert decompressed(finish_gzip(started, live)) == results + live
    assert decompressed(finish_gzip(started, live * 2)) == results + live * 2
    assert gzip.decompress(finish_gzip(started, live)) == results + live


def test_gzip__large() -> None:
    data = b"".join(b'smoketest_test_success{test="%d"} 1.0\n' % n for n in range(60_000))
    page = finish_gzip(start_gzip(data), b"# EOF\n")
    assert gzip.decompress(page) == data + b"# EOF\n"
    assert len(page) < len(data) / 5


@pytest.mark.parametrize("compressed", [False, True])
def test_render__eof(store: ResultsStore, compressed: bool) -> None:
    """OpenMetrics ends with `# EOF`, which does not occur elsewhere in the page."""
    store.record(report())
    page = scrape(Exposition(store), OPEN_METRICS, compressed=compressed)
    assert page.endswith(b"\n# EOF\n")
    assert page.count(b"# EOF") == 1


# Rendering


class CountingRenderer:
    """Renderer that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._render = renderer(lambda: CONTEXT)

    def __call__(self, snapshot: Snapshot) -> Mapping[str, bytes]:
        self.calls += 1
        return self._render(snapshot)


def test_render__once_per_run(folder: StateFolder) -> None:
    """Results are rendered once per run, regardless of the number of scrapes."""
    counted = CountingRenderer()
    store, exposition = SharedStore(folder, counted), exposition_of_process(folder, counted)
    other = exposition_of_process(folder, counted)
    for number in range(1, 4):
        store.record(report(at=NOW + number))
        for _ in range(5):
            for encoding in ENCODINGS:
                for compressed in (False, True):
                    page = scrape(exposition, encoding, compressed=compressed)
                    assert run_total(page) == number
                    assert run_total(scrape(other, encoding, compressed=compressed)) == number
        assert counted.calls == number


def test_render__reads_the_store_once_per_run(folder: StateFolder) -> None:
    """Between two runs a process keeps the results in memory and reads only the status."""
    SharedStore(folder, renderer(lambda: CONTEXT)).record(report())
    exposition = exposition_of_process(folder)
    before = scrape(exposition)
    with exposition.store.connect() as database:
        database.execute("DELETE FROM renditions")
        database.execute("DELETE FROM run_totals")
    assert scrape(exposition) == before
    assert scrape(exposition_of_process(folder)) != before


def test_render__run_of_another_process(folder: StateFolder) -> None:
    """The next scrape of every process includes a run that any process recorded."""
    first, second = exposition_of_process(folder), exposition_of_process(folder)
    for number in range(1, 4):
        recorder = (first, second)[number % 2]
        recorder.store.record(report(at=NOW + number))
        assert run_total(scrape(first)) == number
        assert scrape(second) == scrape(first)


def test_render__filtered_and_aborted_runs(folder: StateFolder) -> None:
    """Filtered and aborted runs also invalidate the rendition."""
    exposition, other = exposition_of_process(folder), exposition_of_process(folder)
    scrape(exposition)
    named = replace(report(Outcome.FAILED), selection=Selection(names=("polls",)))
    other.store.record(named)
    assert b'smoketest_test_consecutive_failures{django_app="polls"' in scrape(exposition)
    other.store.begin(NOW)
    other.store.begin(NOW + 60)
    assert run_total(scrape(exposition), "aborted") == 1


def test_render__current_context(store: ResultsStore) -> None:
    """Values that do not depend on results are computed at each scrape."""
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


def test_render__store_created_again(folder: StateFolder) -> None:
    """A store that was deleted and created again is not mistaken for the previous one."""
    exposition = exposition_of_process(folder)
    exposition.store.record(report(Outcome.PASSED))
    assert run_total(scrape(exposition)) == 1
    for suffix in ("", "-wal", "-shm"):
        (folder.path / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    exposition_of_process(folder).store.record(report(Outcome.FAILED))
    page = scrape(exposition)
    assert (run_total(page), run_total(page, "failed")) == (0, 1)


# Unavailable data


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
    """Without a status, the page has only the families that do not need the store."""
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
    """The same applies if the store fails after its status was read, until it works again."""
    exposition = exposition_of_process(folder)
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
    recovered = scrape(exposition, encoding, compressed=compressed)
    assert recovered == rendered_by_collector(exposition.store.snapshot(), CONTEXT, encoding)


@every_encoding
@pytest.mark.parametrize("compressed", [False, True])
def test_render__recorded_by_another_version(
    folder: StateFolder, encoding: Encoding, compressed: bool
) -> None:
    """Results recorded by a process of another version are rendered by the reading process."""
    SharedStore(folder, lambda _: {"text of another version": b"other"}).record(report())
    counted = CountingRenderer()
    exposition = exposition_of_process(folder, counted)
    for _ in range(3):
        page = scrape(exposition, encoding, compressed=compressed)
        assert page == rendered_by_collector(exposition.store.snapshot(), CONTEXT, encoding)
    assert counted.calls == 1
    exposition.store.record(report())
    SharedStore(folder).record(report(Outcome.FAILED))
    page = scrape(exposition, encoding, compressed=compressed)
    assert run_total(page, "failed") == 1, "the rendition of the previous run was used"


def test_render__before_any_run(store: ResultsStore) -> None:
    """A new store reports no run and is up."""
    page = scrape(Exposition(store))
    assert page == rendered_by_collector(store.snapshot(), CONTEXT, TEXT)
    assert "smoketest_last_run_success" not in families(page)


def test_rendition__generation_increases(store: ResultsStore) -> None:
    """Each run increases the generation."""
    name = next(iter(renderer(lambda: CONTEXT)(store.snapshot())))
    seen = [store.rendition(name)[0]]
    for number in range(3):
        store.record(report(at=NOW + number))
        generation, body = store.rendition(name)
        assert generation == store.status().generation
        assert body
        seen.append(generation)
    assert seen == sorted(set(seen))
