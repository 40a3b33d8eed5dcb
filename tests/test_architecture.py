"""Architecture rules that import-linter (see pyproject.toml) cannot express."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import smoketest

PACKAGE = Path(smoketest.__file__).parent

#: Modules and packages that take plain values instead of settings and requests.
CORE = ("case", "coordination", "isolation", "metrics", "results", "runner", "signals", "store")
FORBIDDEN = ("django.conf", "django.http", "django.urls", "smoketest.conf")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), ast.parse(path.read_text())


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_core__does_not_import_settings_or_http() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if name.partition(".")[0] in CORE
        for imported in imports(tree)
        if f"{imported}.".startswith(tuple(f"{one}." for one in FORBIDDEN))
    ]
    assert wrong == []


def test_results__imports_only_the_standard_library() -> None:
    (tree,) = (tree for name, tree in modules() if name == "results")
    assert not any(imported.startswith(("django", "smoketest")) for imported in imports(tree))


def test_top_level__number_of_modules() -> None:
    """New features belong in one of the packages."""
    assert len(list(PACKAGE.glob("*.py"))) <= 14


def test_imports__are_at_module_level() -> None:
    """Only three modules import inside functions.

    System checks can be registered only when apps are ready, and Django's test framework is loaded
    on demand: for `SmokeTest.client`, and before the first test.
    """
    modules_with_local_imports = {
        name
        for name, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(function))
    }
    assert modules_with_local_imports == {"apps", "case", "runner.executor"}
