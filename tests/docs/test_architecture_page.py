"""docs/architecture.md names what there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.markdown import DOCS, place
from tests.docs.modules import modules_tables
from tests.docs.tables import COMMAND, table_in

PAGE = (DOCS / "architecture.md").read_text()
PROSE = PAGE.replace(table_in(PAGE), "")
#: A file or folder of the checkout; NAME stands for the reader's own.
PATHS = sorted(set(re.findall(r"`((?:\w+/|\.ci/)[\w./-]*|[\w-]+\.toml)`", PROSE)))


def test_modules__are_those_of_the_code() -> None:
    assert table_in(PAGE) == modules_tables(), f"out of date: {COMMAND}"


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_path__exists(path: str) -> None:
    """A file, or a folder where it ends so."""
    assert place(path).exists()
    assert place(path).is_dir() == path.endswith("/")


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" in path])
def test_path__of_the_reader_has_neighbours(path: str) -> None:
    """What is to be added belongs into a folder that is there."""
    before, _, after = path.rstrip("/").partition("NAME")
    folder = place(f"{before}x").parent
    assert list(folder.glob(f"{before.rpartition('/')[2]}*{after}"))


def test_flow__names_modules() -> None:
    """Each file or folder of the drawing is one of the package."""
    drawing = PAGE.partition("```text\n")[2].partition("```")[0]
    found = re.findall(r"[\w/]+(?:\.py\b|/(?=\s))", drawing)
    assert len(found) >= 12
    assert [name for name in found if not place(f"smoketest/{name}").exists()] == []


def names_beside_files() -> Iterator[tuple[str, str]]:
    """A file, and the names that the page says are in it."""
    for name, path in re.findall(r"`(\w+)` (?:of|\() ?`((?:\w+/)+\w+\.py)`", PROSE):
        yield path, name
    for path, name in re.findall(r"`((?:\w+/)+\w+\.py)`: of each test in `(\w+)`", PROSE):
        yield path, name


@pytest.mark.parametrize(("path", "name"), sorted(set(names_beside_files())))
def test_name__is_in_the_file(path: str, name: str) -> None:
    """A constant, a function or a class of the module."""
    tree = ast.parse(place(path).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert name in defined


def test_names__are_found() -> None:
    """The patterns above find what they are for."""
    assert len(set(names_beside_files())) >= 8
    assert len(PATHS) >= 35
