"""Helpers of unit tests that would change the process are refused in smoke tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from django.conf import settings
from django.test import override_settings

from tests.conftest import RunSmoke, result_of

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

SETTINGS = "may not change settings, because its process also serves visitors. Pass the value"
CLOCK = "may not change the clock, because its process also serves visitors. Pass the time"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("with self.settings(DEBUG=True): pass", "settings() is not supported in a smoke test"),
        ("with self.modify_settings(A={}): pass", "modify_settings() is not supported"),
        ("with override_settings(SITE_ID=5): pass", SETTINGS),
        ("override_settings(INSTALLED_APPS=[])(print)()", SETTINGS),
        ("with modify_settings(INSTALLED_APPS={'append': 'x'}): pass", SETTINGS),
        ("with mock.patch('django.conf.settings.SITE_ID', 5, create=True): pass", SETTINGS),
        ("with mock.patch.object(settings, 'SITE_ID', 5, create=True): pass", SETTINGS),
        ("with freeze_time('2020-01-01'): pass", CLOCK),
        ("freeze_time('2020-01-01')(print)()", CLOCK),
        ("with time_machine.travel(0): pass", CLOCK),
        ("time_machine.travel(0)(print)()", CLOCK),
        ("with mock.patch('time.time', lambda: 0): pass", CLOCK),
        ("mock.patch('time.monotonic', lambda: 0).start()", CLOCK),
        ("with mock.patch('datetime.datetime'): pass", CLOCK),
        ("with mock.patch('django.utils.timezone.now'): pass", CLOCK),
        ("mock.patch.object(time, 'time', lambda: 0)(print)()", CLOCK),
        (
            "from django.test import Client; Client().get('/')",
            "Use self.client: django.test.Client",
        ),
        (
            "from django.test import AsyncClient; async_to_sync(AsyncClient().get)('/')",
            "Use self.client",
        ),
        ("self.assertTemplateUsed('a.html')", "Check the content of the response"),
        ("self.assertTemplateNotUsed('a.html')", "Check the content of the response"),
        ("self.captureOnCommitCallbacks(execute=True)", "callbacks have effects that are not roll"),
    ],
)
def test_refused(run_smoke: RunSmoke, statement: str, expected: str) -> None:
    """The test is errored, and nothing has changed for other threads or later tests."""
    report = run_smoke(f"""
        from unittest import mock
        from asgiref.sync import async_to_sync
        from django.conf import settings
        from django.test import modify_settings, override_settings
        import time_machine
        from freezegun import freeze_time

        class Test(SmokeTest):
            def test_1(self):
                before = time.time(), time.monotonic()
                try:
                    {statement}
                finally:
                    self.assertGreaterEqual((time.time(), time.monotonic()), before)
                    self.assertFalse(hasattr(settings, "SITE_ID"))

            def test_2(self):
                pass
    """)
    result = result_of(report, "test_1")
    assert str(result.outcome) == "errored", result
    assert expected in result.message
    assert 0 <= result.duration < 60
    assert str(result_of(report, "test_2").outcome) == "passed"


def test_refused__caught(run_smoke: RunSmoke) -> None:
    """The test is errored even if its code catches the exception."""
    report = run_smoke("""
        from django.test import override_settings

        class Test(SmokeTest):
            def test_it(self):
                try:
                    with override_settings(DEBUG=True):
                        pass
                except Exception:
                    pass
    """)
    result = result_of(report, "test_it")
    assert str(result.outcome) == "errored"
    assert SETTINGS in result.message


def test_fixture__refused(run_smoke: RunSmoke) -> None:
    """Decorators of classes change the clock in setUpClass, and are refused there."""
    report = run_smoke("""
        from freezegun import freeze_time

        @freeze_time("2020-01-01")
        class Test(SmokeTest):
            def test_it(self):
                pass
    """)
    assert CLOCK in result_of(report, "test_it").message


@pytest.mark.parametrize(
    "statement",
    [
        "import freezegun; freezegun.freeze_time('2020-01-01').start()",
        "import time_machine; time_machine.travel(0).start()",
    ],
)
def test_refused__imported_in_the_test(statement: str, tmp_path: Path) -> None:
    """Libraries that no smoke module imports at its top are refused in the first run as well."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "smoke.py").write_text(
        "from smoketest import SmokeTest\n"
        "class Test(SmokeTest):\n"
        "    def test_it(self):\n"
        f"        {statement}\n"
    )
    (tmp_path / "site_settings.py").write_text("INSTALLED_APPS = ['smoketest', 'shop']\n")
    command = (sys.executable, "-m", "django", "smoketest", "--settings=site_settings")
    done = subprocess.run(
        (*command, "--no-store"),
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SMOKETEST_STATE_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert CLOCK in done.stdout


def test_allowed__other_patches(run_smoke: RunSmoke) -> None:
    """Objects of the site may be patched."""
    report = run_smoke("""
        from unittest import mock

        class Test(SmokeTest):
            def test_it(self):
                with mock.patch.object(Account, "label", "patched", create=True):
                    self.assertEqual(Account.label, "patched")

            def test_object_that_cannot_be_compared(self):
                class Array:
                    size = 0

                    def __eq__(self, other):
                        raise ValueError("The truth value of an array is ambiguous.")

                array = Array()
                with mock.patch.object(array, "size", 1):
                    self.assertEqual(array.size, 1)
    """)
    assert str(report.status) == "PASS", report


def test_outside_of_smoke_tests__work_as_before(run_smoke: RunSmoke) -> None:
    """Unit tests of the site, and code of visitors' requests, may use the helpers."""
    run_smoke("class Test(SmokeTest):\n    def test_it(self): pass\n")
    with override_settings(SITE_ID=5), mock.patch("time.time", return_value=7.0):
        assert settings.SITE_ID == 5
        assert time.time() == 7.0
    assert time.time() > 7.0
