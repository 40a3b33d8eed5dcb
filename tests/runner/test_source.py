"""Where a test stands in the code."""

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
    """The name of a smoke module that is imported; its classes stand below 8 lines of imports."""
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
    """The file below the folder that it is imported from, and the line of the method."""
    source = source_of(f"{smoke}.T.test_plain")
    path = f"{smoke.replace('.', '/')}.py"
    assert source == Source(path, line_of(smoke, "    def test_plain(self):"))
    assert str(source) == f"{path}:{source.line}"


def test_source__decorated_or_inherited(smoke: str) -> None:
    """What the author wrote, not what a decorator made of it."""
    decorated, inherited = (
        source_of(f"{smoke}.T.{name}") for name in ("test_decorated", "test_inherited")
    )
    assert decorated
    assert inherited
    # Python says of a decorated function that it begins with its first decorator.
    assert decorated.line == line_of(smoke, "    @logged")
    assert inherited.line == line_of(smoke, "    def test_inherited(self):")


@pytest.mark.parametrize("name", ["T.test_none", "None", "T.number", "T", "", "T.test_plain.more"])
def test_source__unknown(smoke: str, name: str) -> None:
    """What is no method has no place."""
    assert source_of(f"{smoke}.{name}") is None


def test_source__not_imported(apps: Apps) -> None:
    """Nothing is imported for it."""
    name = apps.add("class T(SmokeTest):\n    def test_a(self): pass")
    assert source_of(f"{name}.smoke.T.test_a") is None
    assert f"{name}.smoke" not in sys.modules


def test_source__elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file below no folder of the import path is named whole."""
    module = ModuleType("elsewhere")
    exec(compile("def test_a(): pass", "/srv/elsewhere.py", "exec"), module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    assert source_of("elsewhere.test_a") == Source("/srv/elsewhere.py", 1)


def test_source__odd_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of wrappers that never ends is no reason to fail."""
    module = ModuleType("odd")

    @wraps(test_source)
    def test_a() -> None: ...

    test_a.__wrapped__ = test_a  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "test_a", test_a, raising=False)
    monkeypatch.setitem(sys.modules, "odd", module)
    assert source_of("odd.test_a") is None
