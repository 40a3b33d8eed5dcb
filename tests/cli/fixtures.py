"""Fixtures that run the command on the sites of `tests.cli.site`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from smoketest.management.commands.smoketest import Command
from tests.cli.site import PASSES, Run, Site, counting
from tests.conftest import Apps


@pytest.fixture
def run(apps: Apps, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as a shell does; return its exit code, output and errors.

    The site has one smoke module and stores its results in `tmp_path / "state"`.
    """

    def run(*arguments: str, smoke: str = PASSES, **settings: Any) -> tuple[int, str, str]:
        if not apps.names:
            apps.add(smoke)
        changes = {"SMOKETEST_STATE_DIR": tmp_path / "state", **settings}
        with override_settings(INSTALLED_APPS=["smoketest", *apps.names], **changes):
            try:
                Command().run_from_argv(["manage.py", "smoketest", *arguments])
            except SystemExit as end:
                code = end.code
            else:
                code = 0
        output = capsys.readouterr()
        assert isinstance(code, int)
        return code, output.out, output.err

    return run


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with one passing smoke test. Its processes are killed after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(folder)
    site.smoke(PASSES)
    yield site
    for process in site.processes:
        process.kill()


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], int]:
    """Return how many times the test of `tests.cli.site.counting` has run."""
    path = tmp_path / "ran"
    path.touch()
    return lambda: len(path.read_text())


@pytest.fixture
def refused(run: Run, ran: Callable[[], int], tmp_path: Path) -> Callable[..., str]:
    """Run the command with invalid arguments and return its error message.

    Assert that it exits with 2 and that no test runs.
    """

    def refused(*arguments: str) -> str:
        code, stdout, stderr = run(*arguments, smoke=counting(tmp_path))
        assert (code, stdout) == (2, "")
        assert "Traceback" not in stderr
        assert ran() == 0
        return stderr

    return refused
