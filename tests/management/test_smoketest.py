"""``manage.py smoketest``: what it prints, stores and exits with."""

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
    """Run the command on a site with this smoke module: its exit code, output and errors."""

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
    """Exit code 0, the text report, and where the results were stored."""
    code, stdout, stderr = command("class T(SmokeTest):\n    def test_it(self):\n        pass\n")
    assert code == 0
    assert stdout.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    assert str(tmp_path / "state" / "results.sqlite3") in stderr


def test_fails(command: Command) -> None:
    """Exit code 1 and the problems."""
    code, stdout, _ = command(
        "class T(SmokeTest):\n    def test_it(self):\n        self.fail('x')\n"
    )
    assert code == 1
    assert stdout.rstrip().endswith("app0.smoke.T.test_it failed: x")


def test_warning_fails(command: Command) -> None:
    """A failing test of severity warning is told of; the exit code is 0."""
    code, stdout, _ = command(
        "class T(SmokeTest):\n    severity = 'warning'\n"
        "    def test_it(self):\n        self.fail('x')\n"
    )
    assert code == 0
    assert "test_it failed: [warning] x" in stdout


def test_no_tests(command: Command) -> None:
    """A site without smoke tests is no PASS: another exit code, and what to do."""
    with pytest.raises(CommandError, match=r"smoke\.py") as failure:
        command(None)
    assert failure.value.returncode == 3


def test_another_run_goes_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run, and nothing recorded, if the other run does not end."""
    monkeypatch.setattr("smoketest.cli.asking.GRACE", 0)
    smoke = "class T(SmokeTest):\n    def test_it(self):\n        pass\n"
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        shared = services.state()
    with shared.run_lock.held(), pytest.raises(CommandError, match=r"did not end within 0\.2 s"):
        command(smoke, SMOKETEST_RUN_TIMEOUT=0.2)
    assert shared.store.snapshot().run_totals == {}


def test_wrong_setting(command: Command) -> None:
    """A wrong setting is told of before anything runs."""
    with pytest.raises(SystemCheckError, match=r"smoketest\.E002.*SMOKETEST_TIMEOUT is 'soon'"):
        command("raise SystemExit", SMOKETEST_TIMEOUT="soon")
