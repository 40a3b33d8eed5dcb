"""The tables of modules in docs/architecture.md, in the order that the tests hold them to."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.test_architecture import EDGES, ORDER, PACKAGE

CONTRIB = "smoketest.contrib"


def modules_tables() -> str:
    """The core, the edges and the apps with tests, each with what its modules say of themselves."""
    contrib = [name for name in ORDER if f"{name}.".startswith(f"{CONTRIB}.")]
    sections = {
        "The core, which knows no settings and no HTTP": [n for n in ORDER if n not in EDGES],
        "The edges": [name for name in EDGES if name not in contrib],
        "Apps with ready-made tests": [name for name in contrib if name.count(".") <= 2],
    }
    return "\n".join(f"### {head}\n\n{_table(names)}" for head, names in sections.items())


def _table(names: Iterable[str]) -> str:
    summaries = {name: _summary(name) for name in names}
    rows = (f"| `{name}` | {summary} |\n" for name, summary in summaries.items() if summary)
    return "".join(["| module | what it is for |\n", "| --- | --- |\n", *rows])


def _summary(name: str) -> str:
    """The first paragraph of the module; packages that only hold others say nothing."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    package = path / "__init__.py"
    source = package if package.is_file() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return first.replace("``", "`").replace("|", "\\|")
