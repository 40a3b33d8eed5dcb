"""``python -O``, which removes assert statements."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from smoketest import checks
from tests.cli.site import Site
from tests.conftest import Apps

ASSERTS = """
class T(SmokeTest):
    def test_it(self):
        assert 1 == 2
"""


def test_assert(site: Site) -> None:
    """A module with assert statements is a collection error."""
    site.smoke(ASSERTS)
    refused = site.start(PYTHONOPTIMIZE="1")
    assert refused.wait() == 2
    assert "smoketest.E020" in refused.stderr
    process = site.start("--skip-checks", PYTHONOPTIMIZE="1")
    assert process.wait() == 1
    assert "shop.smoke errored: cannot be imported: Python runs with -O" in process.stdout


def test_no_assert(site: Site) -> None:
    site.smoke(ASSERTS.replace("assert 1 == 2", "self.assertEqual(1, 1)"))
    assert site.start(PYTHONOPTIMIZE="1").wait() == 0


def test_check(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """`manage.py check` names each file, those of packages included."""
    apps.add(ASSERTS)
    apps.add("class T(SmokeTest):\n    def test_it(self): pass\n")
    files = {"smoke/__init__.py": "", "smoke/orders.py": "assert True\n"}
    apps.add(files=files)
    with apps.installed():
        assert checks.check_assert_statements() == []
        monkeypatch.setattr(checks, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=1)))
        messages = checks.check_assert_statements()
    assert [message.id for message in messages] == ["smoketest.E020"] * 2
    names = [Path(str(message.msg).split()[-1].rstrip(".")).name for message in messages]
    assert names == ["smoke.py", "orders.py"]
