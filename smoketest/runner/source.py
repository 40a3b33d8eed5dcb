"""Source locations of smoke tests whose modules are already imported."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """A location in the source code."""

    #: Path relative to an entry of ``sys.path``, such as ``orders/smoke/placing.py``.
    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def source_of(test_id: str) -> Source | None:
    """Return the location of a test method, or None if it is not known.

    It is not known if the module is not imported in this process or has no source. The location of
    an inherited method is that of the base class.
    """
    module, names = _imported_module(test_id)
    found: object = module
    for name in names:
        found = inspect.getattr_static(found, name, None)
    try:
        function = inspect.unwrap(found) if inspect.isfunction(found) else None
    except ValueError:  # a cycle of wrappers
        return None
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return Source(_relative_path(code.co_filename, sys.path), code.co_firstlineno)


def _imported_module(test_id: str) -> tuple[object, list[str]]:
    """Return the imported module of a test, and the attribute names that lead to the method."""
    parts = test_id.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None:
            return module, parts[length:]
    return None, []


def _relative_path(filename: str, folders: Sequence[str]) -> str:
    """Return the path relative to the innermost of `folders`, or unchanged if it is in none."""
    path = Path(filename)
    inner = [folder for folder in folders if folder and path.is_relative_to(folder)]
    return str(path.relative_to(max(inner, key=len))) if inner else filename
