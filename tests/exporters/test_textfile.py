"""A text file for node_exporter: whole or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError, textfile
from smoketest.metrics import TEXT, Context, SmokeTestCollector, expose
from tests.builders import make_declaration, make_known_test, make_result, make_snapshot
from tests.servers.exposition import Exposition
from tests.servers.node_exporter import NodeExporter
from tests.servers.prometheus import check_metrics


def collector(tests: int = 1, *, release: str = "") -> SmokeTestCollector:
    """The metrics of a store that knows so many tests."""
    known = (
        make_known_test(make_result(declaration=make_declaration(f"polls.smoke.T.test_{number}")))
        for number in range(tests)
    )
    snapshot = make_snapshot(*known)
    return SmokeTestCollector(lambda: snapshot, lambda: Context(interval=60, release=release))


class Broken(Collector):
    """Fails in the middle of an exposition."""

    def collect(self) -> Iterable[Metric]:
        yield from collector().collect()
        raise RuntimeError("the disk is on fire")


def test_write__is_the_exposition(tmp_path: Path) -> None:
    """The file holds the text format, and promtool has nothing to say about it."""
    path = tmp_path / "smoketest.prom"
    textfile.write(path, collector(3))
    assert path.read_bytes() == expose(collector(3), TEXT)
    done = check_metrics(path.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_write__can_be_read_by_others(tmp_path: Path) -> None:
    """node_exporter runs as another user: the file has the mode that the umask gives."""
    path = tmp_path / "smoketest.prom"
    (tmp_path / "other").touch()
    textfile.write(path, collector())
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_write__replaces_in_one_step(tmp_path: Path) -> None:
    """Whoever reads while the file is replaced gets the old one or the new one, whole."""
    path = tmp_path / "smoketest.prom"
    small, large = collector(1, release="1"), collector(200, release="2")
    allowed = {expose(small, TEXT), expose(large, TEXT)}
    textfile.write(path, small)
    seen = set()
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        give_up_at = time.monotonic() + 60
        rounds = 0
        while (rounds < 15 or not seen >= allowed) and time.monotonic() < give_up_at:
            textfile.write(path, large)
            textfile.write(path, small)
            rounds += 1
    finally:
        is_over.set()
        reader.join()
    assert seen == allowed
    assert [file.name for file in tmp_path.iterdir()] == ["smoketest.prom"]


def test_write__failure_keeps_the_old_file(tmp_path: Path) -> None:
    """If the metrics cannot be made, the old file stays as it was."""
    path = tmp_path / "smoketest.prom"
    textfile.write(path, collector())
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="on fire"):
        textfile.write(path, Broken())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*.prom")] == ["smoketest.prom"]


@pytest.mark.parametrize("name", ["smoketest.txt", "smoketest", "smoketest.prom.bak", ".prom"])
def test_write__wrong_suffix(tmp_path: Path, name: str) -> None:
    """A file that node_exporter would not read is refused, and the message says why."""
    with pytest.raises(ExportError, match=r"does not end in \.prom; node_exporter only reads"):
        textfile.write(tmp_path / name, collector())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("missing", "No such file or directory"), ("file", "Not a directory")],
)
def test_write__unwritable_folder(tmp_path: Path, folder: str, reason: str) -> None:
    """A folder that takes no file: what happened and what to do, and no traceback."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "smoketest.prom"
    with pytest.raises(ExportError) as failure:
        textfile.write(path, collector())
    assert str(failure.value) == (
        f"{path} cannot be written: {reason}. Choose a directory that this user can write to."
    )


def test_write__path_of_a_folder(tmp_path: Path) -> None:
    """A folder of that name stays, and the message names it."""
    path = tmp_path / "smoketest.prom"
    path.mkdir()
    with pytest.raises(ExportError, match="cannot be written: Is a directory"):
        textfile.write(path, collector())
    assert path.is_dir()
    assert list(path.iterdir()) == []


def test_write__is_read_by_node_exporter() -> None:
    """A real node_exporter shows every series of it, with its value."""
    expected = Exposition(expose(collector(3), TEXT).decode())
    with NodeExporter() as exporter:
        textfile.write(exporter.text_folder / "smoketest.prom", collector(3))
        seen = exporter.metrics()
    assert seen.value("node_textfile_scrape_error") == 0
    for series, value in expected.samples.items():
        assert seen.samples[series] == value, series
