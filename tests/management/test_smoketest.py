"""Output, stored results and exit codes of ``manage.py smoketest``."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from smoketest import services
from tests.conftest import Apps

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(apps: Apps, tmp_path: Path) -> Command:
    """Run the command on a site with this smoke module; return its exit code, output and errors."""

    def run(smoke: str | None, **settings: Any) -> tuple[int, str, str]:
        apps.add(smoke)
        stdout, stderr = io.StringIO(), io.StringIO()
        state_dir = tmp_path / "state"
        installed = ["smoketest", *apps.names]
        with override_settings(
            INSTALLED_APPS=installed, **{"SMOKETEST_STATE_DIR": state_dir, **settings}
        ):
            try:
                call_command("smoketest", stdout=stdout, stderr=stderr, skip_checks=False)
            except SystemExit as end:
                code = end.code
                assert isinstance(code, int)
                return code, stdout.getvalue(), stderr.getvalue()
        return 0, stdout.getvalue(), stderr.getvalue()

    return run


def test_passes(command: Command, tmp_path: Path) -> None:
    """Exit with 0, print the text report and the path of the results store."""
    code, stdout, stderr = command("class T(SmokeTest):\n    def test_it(self):\n        pass\n")
    assert code == 0
    assert stdout.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    assert str(tmp_path / "state" / "results.sqlite3") in stderr


def test_fails(command: Command) -> None:
    """Exit with 1 and print the problems."""
    code, stdout, _ = command(
        "class T(SmokeTest):\n    def test_it(self):\n        self.fail('x')\n"
    )
    assert code == 1
    assert stdout.rstrip().endswith("app0.smoke.T.test_it failed: x")


def test_failing_warning(command: Command) -> None:
    """A failing test of severity warning is printed but does not change the exit code."""
    code, stdout, _ = command(
        "class T(SmokeTest):\n    severity = 'warning'\n"
        "    def test_it(self):\n        self.fail('x')\n"
    )
    assert code == 0
    assert "test_it failed: [warning] x" in stdout


def test_no_tests(command: Command) -> None:
    """Exit with 3 and explain how to add smoke tests."""
    with pytest.raises(CommandError, match=r"smoke\.py") as failure:
        command(None)
    assert failure.value.returncode == 3


def test_another_run_in_progress(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run or recorded if the other run does not end in time."""
    monkeypatch.setattr("smoketest.cli.asking.GRACE", 0)
    smoke = "class T(SmokeTest):\n    def test_it(self):\n        pass\n"
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        shared = services.state()
    with shared.run_lock.held(), pytest.raises(CommandError, match=r"did not end within 0\.2 s"):
        command(smoke, SMOKETEST_RUN_TIMEOUT=0.2)
    assert shared.store.snapshot().run_totals == {}


def test_invalid_setting(command: Command) -> None:
    """An invalid setting is reported before any test runs."""
    with pytest.raises(SystemCheckError, match=r"smoketest\.E002.*SMOKETEST_TIMEOUT is 'soon'"):
        command("raise SystemExit", SMOKETEST_TIMEOUT="soon")
