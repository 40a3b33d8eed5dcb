"""Tests of docs/architecture.md and docs/extending.md: the files and names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.markdown import DOCS, locate
from tests.docs.modules import modules_tables
from tests.docs.tables import COMMAND, table_in

PAGE = (DOCS / "architecture.md").read_text()
PROSE = PAGE.replace(table_in(PAGE), "") + (DOCS / "extending.md").read_text()
#: Files and directories of the checkout; NAME is a placeholder.
PATHS = sorted(set(re.findall(r"`((?:\w+/|\.ci/)[\w./-]*|[\w-]+\.toml)`", PROSE)))


def test_modules__match_the_code() -> None:
    assert table_in(PAGE) == modules_tables(), f"out of date: {COMMAND}"


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_path__exists(path: str) -> None:
    """The path is a directory if it ends with a slash, and a file otherwise."""
    assert locate(path).exists()
    assert locate(path).is_dir() == path.endswith("/")


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" in path])
def test_path__with_placeholder_has_siblings(path: str) -> None:
    """A file to add belongs in an existing directory with files like it."""
    before, _, after = path.rstrip("/").partition("NAME")
    folder = locate(f"{before}x").parent
    assert list(folder.glob(f"{before.rpartition('/')[2]}*{after}"))


def test_flow__names_modules() -> None:
    """All files and directories in the diagram are in the package."""
    diagram = PAGE.partition("```text\n")[2].partition("```")[0]
    found = re.findall(r"[\w/]+(?:\.py\b|/(?=\s))", diagram)
    assert len(found) >= 12
    assert [name for name in found if not locate(f"smoketest/{name}").exists()] == []


def names_beside_files() -> Iterator[tuple[str, str]]:
    """Yield files, and the names that they define according to the pages."""
    for name, path in re.findall(r"`(\w+)` (?:of|\() ?`((?:\w+/)+\w+\.py)`", PROSE):
        yield path, name
    for path, name in re.findall(r"`((?:\w+/)+\w+\.py)`: of each test in `(\w+)`", PROSE):
        yield path, name


@pytest.mark.parametrize(("path", "name"), sorted(set(names_beside_files())))
def test_name__is_in_the_file(path: str, name: str) -> None:
    """The module defines the constant, function or class."""
    tree = ast.parse(locate(path).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert name in defined


def test_patterns__match() -> None:
    assert len(set(names_beside_files())) >= 8
    assert len(PATHS) >= 35
