"""Unit tests of a site that request the endpoints, under Django's test runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.test import Client, override_settings

from smoketest import services
from smoketest.conf import is_set_by_a_test
from smoketest.store import FILE_NAME, MemoryStore, SharedStore
from smoketest.store.directory import StateFolder
from tests.builders import make_report, make_result
from tests.conftest import Apps

#: Fails while the environment variable is set, and runs once per hour.
SMOKE = """
import os
class T(SmokeTest):
    @options(every=3600)
    def test_it(self):
        assert "BROKEN" not in os.environ
"""

UNIT_TESTS = """
import os
from unittest.mock import patch
from django.core.management import call_command
from django.test import TestCase
class SmokeTests(TestCase):
    def test_1_passes(self):
        self.assertEqual(self.client.get("/smoketest/").status_code, 200)
    def test_2_fails(self):
        with patch.dict(os.environ, BROKEN="1"):
            self.assertEqual(self.client.get("/smoketest/").status_code, 500)
            self.assertEqual(self.client.get("/smoketest/?max_age=60").status_code, 500)
            self.assertContains(self.client.get("/smoketest/metrics"), "last_run_success 0.0")
    def test_3_passes_again(self):
        for query in ("", "?max_age=60", "?test=shop_unit"):
            self.assertEqual(self.client.get(f"/smoketest/{query}").status_code, 200)
        self.assertEqual(self.get_cached().status_code, 504)
    def get_cached(self):
        return self.client.get("/smoketest/", headers={"Cache-Control": "only-if-cached"})
    def test_4_command(self):
        with patch.dict(os.environ, BROKEN="1"), self.assertRaises(SystemExit):
            call_command("smoketest", verbosity=0)
"""


@pytest.mark.parametrize("runner", ["django", "pytest"])
def test_unit_tests__do_not_use_the_shared_store(tmp_path: Path, apps: Apps, runner: str) -> None:
    """Production's results stay, and each request of a unit test has a run of its own."""
    state = tmp_path / "state"
    state.mkdir()
    store = SharedStore(StateFolder(state, 0o600))
    store.record(make_report(make_result()))
    before = store.snapshot()
    apps.add(SMOKE, name="shop_unit", files={"tests.py": UNIT_TESTS})
    (apps.folder / "shop_settings.py").write_text(
        dedent(
            f"""
            from tests.settings import *
            ALLOWED_HOSTS = ["testserver"]
            INSTALLED_APPS = ["smoketest", "tests.ledger", "shop_unit"]
            SMOKETEST_STATE_DIR = {str(state)!r}
            """
        )
    )
    commands = {
        "django": ["-m", "django", "test", "shop_unit"],
        "pytest": ["-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-c",
                   os.devnull, "--rootdir", str(tmp_path), str(apps.folder / "shop_unit/tests.py")],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *commands[runner]],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": os.pathsep.join([str(apps.folder), *sys.path]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert store.snapshot() == before


def test_unit_test__that_sets_the_directory(tmp_path: Path, apps: Apps) -> None:
    """A unit test that sets SMOKETEST_STATE_DIR uses it as the site does."""
    apps.add(SMOKE)
    with override_settings(SMOKETEST_STATE_DIR=str(tmp_path)), apps.installed():
        assert not services.is_unit_test()
        assert Client().get("/smoketest/").status_code == 200
    assert (tmp_path / FILE_NAME).exists()
    assert services.is_unit_test()
    assert isinstance(services.state().store, MemoryStore)


def test_is_set_by_a_test(settings: Any) -> None:
    with override_settings(SMOKETEST_RELEASE="1"), override_settings(SMOKETEST_PROJECT="shop"):
        assert is_set_by_a_test("SMOKETEST_RELEASE")
        assert not is_set_by_a_test("SECRET_KEY")
    assert not is_set_by_a_test("SMOKETEST_RELEASE")
    settings.SMOKETEST_RELEASE = "2"
    assert is_set_by_a_test("SMOKETEST_RELEASE")
