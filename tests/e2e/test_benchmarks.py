"""The benchmark scripts run with small workloads and write their results into the documentation."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.docs.markdown import blocks, commands
from tests.servers.services import require
from tests.servers.site import require_module

pytestmark = pytest.mark.e2e

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Rows that the output of each benchmark must contain, for this package and its peers.
ROWS = {
    "runner": ("| django-smoketest, runner only |", "| baseline |"),
    "waiting": ("| django-smoketest, SMOKETEST_WORKERS = 20 |", "| baseline |"),
    "crowd": ("| django-smoketest |", "| baseline: requests for the other page |"),
    "hung": ("| django-smoketest |", "| baseline: a check that passes |"),
    "scrape": ("| /smoketest/metrics |", "| baseline: the same bytes from memory |"),
    "idle": ("| added by django-smoketest |", "| baseline: the site without it |"),
    "fleet": ("| 10 |", "| `smoketest_test_success` |"),
}

Running = dict[str, subprocess.Popen[str]]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Start all benchmarks at once, as most of them wait and their figures are not used."""
    for program in ("postgres", "prometheus"):
        require(program)
    for module, package in (("gunicorn", "gunicorn"), ("psycopg", "psycopg[binary]")):
        require_module(module, package)
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--without-peers"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ROWS
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module that the benchmarks share, imported as they import it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("harness")


@pytest.mark.parametrize("name", ROWS)
def test_benchmark__runs(running: Running, name: str) -> None:
    """The benchmark exits with 0 and prints the rows of this package and its peers."""
    output, _ = running[name].communicate(timeout=600)
    assert running[name].returncode == 0, output
    for row in ROWS[name]:
        assert any(line.startswith(row) for line in output.splitlines()), (
            f"no row {row} in\n{output}"
        )
    assert "\nTargets:\n" in output


def test_all_benchmarks__listed_and_documented(harness: ModuleType) -> None:
    """`python benchmarks` includes each script, and the pages have a section for each."""
    names = importlib.import_module("benchmarks.__main__").NAMES
    assert set(names) == set(ROWS)
    page = harness.PAGE.read_text()
    for name in names:
        assert page.count(harness.begin_of(name)) == page.count(harness.end_of(name)) == 1
    targets = harness.TARGETS_PAGE.read_text()
    for name in names:
        assert targets.count(harness.begin_of(name)) == targets.count(harness.end_of(name)) == 1


def test_page__commands_and_configuration(harness: ModuleType) -> None:
    """The commands of the page exist, and its relabel configuration is the measured one."""
    page = harness.PAGE.read_text()
    for command, _ in commands(page):
        program, *arguments = command.partition("#")[0].split()
        if program == "make":
            continue
        assert program == "python"
        assert Path(arguments[0]).stem in ROWS
        assert set(arguments[1:]) <= {"--quick", "--without-peers"}
    (block,) = blocks(page, "yaml")
    fleet = importlib.import_module("fleet")
    found = yaml.safe_load(block.content)
    assert found == {"metric_relabel_configs": fleet.dropping(fleet.DROPPED)}


def test_write_section__replaces_only_one_section(harness: ModuleType, tmp_path: Path) -> None:
    """Only the text between the two comments of a benchmark is replaced."""
    page = tmp_path / "page.md"
    begin, end = harness.begin_of("crowd"), harness.end_of("crowd")
    other = f"{harness.begin_of('hung')}\nOther.\n\n{harness.end_of('hung')}"
    page.write_text(f"Before.\n{begin}\nOld.\n\n{end}After.\n{other}")
    harness.write_section("crowd", "New.\n", page)
    assert page.read_text() == f"Before.\n{begin}\nNew.\n\n{end}After.\n{other}"
    with pytest.raises(SystemExit, match="no section for idle"):
        harness.write_section("idle", "New.", page)


def test_target__met_at_its_limit(harness: ModuleType) -> None:
    """A value equal to its limit meets the target."""
    assert harness.Aim("", 1.6, 1.6).is_met
    assert not harness.Aim("", 1.61, 1.6).is_met
    assert harness.Aim("", 8, 8, at_least=True).is_met
    assert not harness.Aim("", 7.9, 8, at_least=True).is_met


def test_in_turns__discards_first_round(harness: ModuleType) -> None:
    """Contenders alternate, and the first round is discarded."""
    called = []

    def contender(name: str) -> float:
        called.append(name)
        return float(len(called))

    found = harness.in_turns({"a": lambda: contender("a"), "b": lambda: contender("b")}, 2)
    assert called == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert harness.ratio(found["a"], found["b"]) == pytest.approx((3 / 4 + 5 / 6) / 2)


@pytest.mark.usefixtures("harness")
def test_overlaps() -> None:
    """Adjacent runs do not overlap, and lines may be out of order."""
    crowd = importlib.import_module("crowd")
    assert crowd.overlaps("") == (0, 0)
    assert crowd.overlaps("1 begin\n2 end\n3 begin\n4 end\n") == (2, 1)
    assert crowd.overlaps("1 begin\n3 end\n2 begin\n4 end\n3.5 begin\n5 end\n") == (3, 2)
