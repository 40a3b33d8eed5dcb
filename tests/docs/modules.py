"""The tables of modules in docs/architecture.md, generated from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.test_architecture import PACKAGE

#: Packages from the lowest layer to the highest, as in the import-linter contract.
PACKAGES = (
    "isolation", "store", "runner", "coordination", "formats", "exporters", "web", "cli",
    "management/commands",
)  # fmt: skip


def modules_tables() -> str:
    """Return a table for the top level, for each package and for the built-in checks."""
    sections = {"`smoketest/`": sorted(PACKAGE.glob("*.py"))}
    sections |= {f"`smoketest/{name}/`": sorted((PACKAGE / name).glob("*.py")) for name in PACKAGES}
    sections["`smoketest/contrib/`"] = [
        *sorted((PACKAGE / "contrib").glob("*.py")),
        *sorted((PACKAGE / "contrib").glob("*/__init__.py")),
    ]
    return "\n".join(f"### {head}\n\n{_table(paths)}" for head, paths in sections.items())


def module_names() -> Sequence[str]:
    """Return the dotted names of the modules in the tables."""
    return [line.split("`")[1] for line in modules_tables().splitlines() if line.startswith("| `")]


def _table(paths: Iterable[Path]) -> str:
    summaries = {_name(path): _summary(path) for path in paths}
    rows = (f"| `{name}` | {summary} |\n" for name, summary in summaries.items() if summary)
    return "".join(["| module | purpose |\n", "| --- | --- |\n", *rows])


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _summary(path: Path) -> str:
    """Return the first paragraph of the docstring, empty for a module without one."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return first.replace("``", "`").replace("|", "\\|")
