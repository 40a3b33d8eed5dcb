"""Where a smoke test stands in the code, as far as that is known without importing anything."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """A place in the code."""

    #: As it is below the folder that Python imports it from: ``orders/smoke/placing.py``.
    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def source_of(test_id: str) -> Source | None:
    """Where a test is written; None if its module was not imported here, or has no source.

    Where a method is inherited, that is in another module.
    """
    module, names = _imported_module(test_id)
    found: object = module
    for name in names:
        found = inspect.getattr_static(found, name, None)
    try:
        function = inspect.unwrap(found) if inspect.isfunction(found) else None
    except ValueError:  # wrappers that go round in a circle
        return None
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return Source(_below(code.co_filename, sys.path), code.co_firstlineno)


def _imported_module(test_id: str) -> tuple[object, list[str]]:
    """The module of the test, and the names that lead from it to the method."""
    parts = test_id.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None:
            return module, parts[length:]
    return None, []


def _below(filename: str, folders: Sequence[str]) -> str:
    """The path below the innermost of the folders; the whole path if it is below none."""
    path = Path(filename)
    inner = [folder for folder in folders if folder and path.is_relative_to(folder)]
    return str(path.relative_to(max(inner, key=len))) if inner else filename
