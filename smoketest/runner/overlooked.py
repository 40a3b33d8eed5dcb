"""Tests that are written but do not run, or that check nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from smoketest.case import SmokeTest

_NO_ASSERTS = (
    "Python runs with -O or PYTHONOPTIMIZE, which removes the assert statements of this module, so"
    " its tests would check nothing. Run Python without it, or use methods such as"
    " self.assertTrue()."
)
#: Prefix of test methods in unittest, which also runs ``testOrders``.
_UNITTEST_PREFIX = "test"


def overlooked(module: ModuleType, prefix: str) -> Iterator[str]:
    """Yield a sentence for each function and class of a smoke module whose tests do not run.

    `prefix` begins the names of test methods.
    """
    for name, value in vars(module).items():
        # isinstance() would evaluate a lazy object.
        is_function = type(value) is FunctionType and value.__module__ == module.__name__
        if is_function and name.startswith(prefix):
            yield (
                f"{module.__name__}.{name}() does not run, because it is a function. Tests are"
                " methods of SmokeTest classes."
            )
    classes = [value for value in vars(module).values() if _is_smoke_class(value)]
    bases = {base for one in classes for base in one.__mro__[1:]}
    for case in classes:
        tests = [name for name in dir(case) if name.startswith(prefix)]
        name = f"{case.__module__}.{case.__qualname__}"
        is_own = case.__module__ == module.__name__
        if tests and not is_own and case not in bases:
            yield (
                f"{name} does not run in {module.__name__}, which imports it. Classes run in the"
                " smoke module that defines them; define a subclass to run its tests here too."
            )
        methods = _methods(case)
        for method in methods if is_own else ():
            if method.startswith(_UNITTEST_PREFIX) and not method.startswith(prefix):
                yield f"{name}.{method}() does not run: names of tests begin with {prefix!r}."
        if methods and not tests and is_own and not case.__subclasses__():
            yield (
                f"{name} has no tests: names of tests begin with {prefix!r}, and its methods are"
                f" {', '.join(methods)}."
            )


def require_asserts(module: ModuleType) -> None:
    """Raise `RuntimeError` if Python has removed assert statements from the module."""
    if sys.flags.optimize and contains_assert(Path(module.__file__ or "")):
        raise RuntimeError(_NO_ASSERTS)


def contains_assert(path: Path) -> bool:
    """Return whether a source file contains an assert statement."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # its import fails
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def _is_smoke_class(value: object) -> bool:
    return issubclass(type(value), type) and issubclass(value, SmokeTest)  # type: ignore[arg-type]


def _methods(case: type[SmokeTest]) -> list[str]:
    """Return the names of the methods that a class adds to those of `SmokeTest`."""
    return [
        name
        for name, value in vars(case).items()
        if type(value) is FunctionType and not hasattr(SmokeTest, name) and not name.startswith("_")
    ]
