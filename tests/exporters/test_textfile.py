"""Text file for node_exporter, written atomically."""

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
from smoketest.results import Outcome
from tests.builders import make_declaration, make_known_test, make_result, make_snapshot
from tests.servers.exposition import Exposition
from tests.servers.node_exporter import NodeExporter
from tests.servers.prometheus import check_metrics


def collector(
    tests: int = 1, *, release: str = "", project: str = "", passes: bool = True
) -> SmokeTestCollector:
    """Return a collector for a store with this number of tests."""
    known = (
        make_known_test(
            make_result(
                Outcome.PASSED if passes else Outcome.FAILED,
                declaration=make_declaration(f"polls.smoke.T.test_{number}"),
            )
        )
        for number in range(tests)
    )
    snapshot = make_snapshot(*known)
    context = Context(interval=60, release=release, project=project)
    return SmokeTestCollector(lambda: snapshot, lambda: context)


class FailingCollector(Collector):
    """Collector that raises an exception in the middle of an exposition."""

    def collect(self) -> Iterable[Metric]:
        yield from collector().collect()
        raise RuntimeError("the disk is on fire")


def test_write__content(tmp_path: Path) -> None:
    """The file contains the text format, which promtool accepts."""
    path = tmp_path / "smoketest.prom"
    textfile.write(path, collector(3))
    assert path.read_bytes() == expose(collector(3), TEXT)
    done = check_metrics(path.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_write__file_mode(tmp_path: Path) -> None:
    """The umask determines the file mode, as node_exporter runs as another user."""
    path = tmp_path / "smoketest.prom"
    (tmp_path / "other").touch()
    textfile.write(path, collector())
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_write__atomic(tmp_path: Path) -> None:
    """A concurrent reader sees either the complete old file or the complete new one."""
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
        deadline = time.monotonic() + 60
        rounds = 0
        while (rounds < 15 or not seen >= allowed) and time.monotonic() < deadline:
            textfile.write(path, large)
            textfile.write(path, small)
            rounds += 1
    finally:
        is_over.set()
        reader.join()
    assert seen == allowed
    assert [file.name for file in tmp_path.iterdir()] == ["smoketest.prom"]


def test_write__error_keeps_existing_file(tmp_path: Path) -> None:
    """If rendering fails, the existing file is not changed."""
    path = tmp_path / "smoketest.prom"
    textfile.write(path, collector())
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="on fire"):
        textfile.write(path, FailingCollector())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*.prom")] == ["smoketest.prom"]


@pytest.mark.parametrize("name", ["smoketest.txt", "smoketest", "smoketest.prom.bak", ".prom"])
def test_write__invalid_suffix(tmp_path: Path, name: str) -> None:
    """A file name that node_exporter would ignore is rejected."""
    with pytest.raises(ExportError, match=r"does not end in \.prom; node_exporter only reads"):
        textfile.write(tmp_path / name, collector())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("missing", "No such file or directory"), ("file", "Not a directory")],
)
def test_write__unwritable_folder(tmp_path: Path, folder: str, reason: str) -> None:
    """The error contains the reason and a hint."""
    (tmp_path / "file").touch()
    path = tmp_path / folder / "smoketest.prom"
    with pytest.raises(ExportError) as failure:
        textfile.write(path, collector())
    assert str(failure.value) == (
        f"{path} cannot be written: {reason}. Choose a directory that this user can write to."
    )


def test_write__path_is_a_directory(tmp_path: Path) -> None:
    """An existing directory is not replaced, and the error contains its path."""
    path = tmp_path / "smoketest.prom"
    path.mkdir()
    with pytest.raises(ExportError, match="cannot be written: Is a directory"):
        textfile.write(path, collector())
    assert path.is_dir()
    assert list(path.iterdir()) == []


def test_write__read_by_node_exporter() -> None:
    """A real node_exporter exports every series of the file with its value."""
    expected = Exposition(expose(collector(3), TEXT).decode())
    with NodeExporter() as exporter:
        textfile.write(exporter.text_folder / "smoketest.prom", collector(3))
        seen = exporter.metrics()
    assert seen.value("node_textfile_scrape_error") == 0
    for series, value in expected.samples.items():
        assert seen.samples[series] == value, series


# Several sites in one directory


def test_sites__are_distinguished_by_node_exporter() -> None:
    """The failure of a site is exported, although another site has a test of the same name."""
    with NodeExporter() as exporter:
        for site, passes in (("blog", True), ("shop", False)):
            path = exporter.text_folder / f"{site}.prom"
            textfile.write(path, collector(project=site, passes=passes), project=site)
        seen = exporter.metrics()
    for site, value in (("blog", 1), ("shop", 0)):
        assert seen.value("smoketest_test_success", django_project=site) == value
        assert seen.value("smoketest_results_store_up", django_project=site) == 1


def test_sites__without_names_hide_each_other() -> None:
    """node_exporter exports one of two files with the same series, and reports no error."""
    with NodeExporter() as exporter:
        textfile.write(exporter.text_folder / "blog.prom", collector())
        (exporter.text_folder / "shop.prom").write_bytes(expose(collector(passes=False), TEXT))
        seen = exporter.metrics()
    assert len(seen.matching("smoketest_test_success")) == 1
    assert seen.value("node_textfile_scrape_error") == 0


@pytest.mark.parametrize(
    ("theirs", "ours", "solution"),
    [
        ("", "", "Set SMOKETEST_PROJECT to a name of this site, and do the same for the other"),
        ("blog", "", "Set SMOKETEST_PROJECT to a name of this site, and do the same for the other"),
        ("shop", "shop", "Give each site a different SMOKETEST_PROJECT;"),
    ],
)
def test_sites__same_series_are_refused(
    tmp_path: Path, theirs: str, ours: str, solution: str
) -> None:
    """The message contains the other file and the solution, and nothing is written."""
    other, path = tmp_path / "blog.prom", tmp_path / "shop.prom"
    textfile.write(other, collector(release='1,django_project="x"', project=theirs), project=theirs)
    before = other.read_bytes()
    with pytest.raises(ExportError) as failure:
        textfile.write(path, collector(project=ours), project=ours)
    assert str(failure.value).startswith(f"{other} also contains metrics of smoke tests, and node_")
    assert solution in str(failure.value)
    assert list(tmp_path.iterdir()) == [other]
    assert other.read_bytes() == before


@pytest.mark.parametrize("ours", ["", "shop"])
def test_sites__file_of_another_site_is_kept(tmp_path: Path, ours: str) -> None:
    """Two sites with the same --textfile do not overwrite each other's results."""
    path = tmp_path / "smoketest.prom"
    textfile.write(path, collector(project="blog"), project="blog")
    before = path.read_bytes()
    with pytest.raises(ExportError, match="contains the metrics of the site 'blog'"):
        textfile.write(path, collector(project=ours), project=ours)
    assert path.read_bytes() == before


def test_sites__other_files_do_not_matter(tmp_path: Path) -> None:
    """Files of other programs, and one without the label, do not collide with ours."""
    (tmp_path / "apt.prom").write_text('apt_upgrades_pending{origin="x"} 3\n')
    (tmp_path / "folder.prom").mkdir()
    path = tmp_path / "shop.prom"
    textfile.write(path, collector())
    textfile.write(path, collector(project="shop"), project="shop")  # the setting is new
    (tmp_path / "blog.prom").write_bytes(expose(collector(), TEXT))
    textfile.write(path, collector(project="shop"), project="shop")
    assert 'django_project="shop"' in path.read_text()
