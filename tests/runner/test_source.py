"""The source location of a test."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from types import ModuleType

import pytest

from smoketest.runner.source import Source, source_of
from tests.conftest import Apps


@pytest.fixture
def smoke(apps: Apps) -> str:
    """Return the name of an imported smoke module; 8 lines of imports precede its classes."""
    name = apps.add(
        """
        from functools import wraps

        def logged(function):
            @wraps(function)
            def call(self):
                function(self)
            return call

        class Base(SmokeTest):
            def test_inherited(self):
                pass

        class T(Base):
            number = 1
            def test_plain(self):
                pass
            @logged
            def test_decorated(self):
                pass
        """
    )
    __import__(f"{name}.smoke")
    return f"{name}.smoke"


def line_of(module: str, text: str) -> int:
    lines = Path(sys.modules[module].__file__ or "").read_text().splitlines()
    return lines.index(text) + 1


def test_source(smoke: str) -> None:
    """The location is a path relative to the import path, and the line of the method."""
    source = source_of(f"{smoke}.T.test_plain")
    path = f"{smoke.replace('.', '/')}.py"
    assert source == Source(path, line_of(smoke, "    def test_plain(self):"))
    assert str(source) == f"{path}:{source.line}"


def test_source__decorated_or_inherited(smoke: str) -> None:
    """The location is that of the function the author wrote, not of its decorator."""
    decorated, inherited = (
        source_of(f"{smoke}.T.{name}") for name in ("test_decorated", "test_inherited")
    )
    assert decorated
    assert inherited
    # The first line of a decorated function is that of its first decorator.
    assert decorated.line == line_of(smoke, "    @logged")
    assert inherited.line == line_of(smoke, "    def test_inherited(self):")


@pytest.mark.parametrize("name", ["T.test_none", "None", "T.number", "T", "", "T.test_plain.more"])
def test_source__not_a_method(smoke: str, name: str) -> None:
    """Only a method has a source location."""
    assert source_of(f"{smoke}.{name}") is None


def test_source__not_imported(apps: Apps) -> None:
    """Looking up a location does not import a module."""
    name = apps.add("class T(SmokeTest):\n    def test_a(self): pass")
    assert source_of(f"{name}.smoke.T.test_a") is None
    assert f"{name}.smoke" not in sys.modules


def test_source__outside_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file outside the import path is given by its absolute path."""
    module = ModuleType("elsewhere")
    exec(compile("def test_a(): pass", "/srv/elsewhere.py", "exec"), module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    assert source_of("elsewhere.test_a") == Source("/srv/elsewhere.py", 1)


def test_source__circular_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circular `__wrapped__` chain has no location and raises nothing."""
    module = ModuleType("odd")

    @wraps(test_source)
    def test_a() -> None: ...

    test_a.__wrapped__ = test_a  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "test_a", test_a, raising=False)
    monkeypatch.setitem(sys.modules, "odd", module)
    assert source_of("odd.test_a") is None
