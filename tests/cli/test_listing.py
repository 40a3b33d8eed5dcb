"""`--list`: print the ids of the selected tests without running them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from django.test import override_settings

from smoketest import services
from smoketest.coordination.redaction import MASK
from tests.cli.site import Run, counting
from tests.conftest import Apps

SEVERAL = """
class T(SmokeTest):
    severity = "warning"
    maintainer = "shop"
    every = 60

    @tag("db")
    @options(timeout=2)
    def test_one(self):
        \"\"\"Orders can be read.\"\"\"
        raise RuntimeError

    def test_two(self):
        raise RuntimeError

class U(SmokeTest):
    databases = ["default"]
    read_only = True
    def test_three(self):
        raise RuntimeError
"""


def test_text(run: Run) -> None:
    """One id per line, in order and without other output, so that a shell can loop over it."""
    assert run("--list", smoke=SEVERAL) == (
        0,
        "app0.smoke.T.test_one\napp0.smoke.T.test_two\napp0.smoke.U.test_three\n",
        "",
    )


def test_text__ids_are_valid_arguments(run: Run) -> None:
    """Every listed id can be passed back to the command."""
    stdout = run("--list", smoke=SEVERAL)[1]
    assert run("--list", *stdout.split())[1] == stdout


def test_selection(run: Run) -> None:
    assert run("--list", "--tag", "db", smoke=SEVERAL)[1] == "app0.smoke.T.test_one\n"
    assert run("--list", "app0.smoke.U")[1] == "app0.smoke.U.test_three\n"


def test_failed(run: Run) -> None:
    """--list --failed lists the tests that --failed would run."""
    run("app0.smoke.U", smoke=SEVERAL)
    assert run("--list", "--failed")[1] == "app0.smoke.U.test_three\n"


def test_selection__no_match(run: Run) -> None:
    code, stdout, stderr = run("--list", "app0.smoke.T.test_tow", smoke=SEVERAL)
    assert (code, stdout) == (3, "")
    assert "Did you mean app0.smoke.T.test_two" in stderr


def test_json(run: Run) -> None:
    """Each test is listed with its declared options."""
    code, stdout, _ = run("--list", "--format", "json", smoke=SEVERAL, SMOKETEST_TIMEOUT=7)
    assert code == 0
    one, two, three = json.loads(stdout)
    assert one == {
        "id": "app0.smoke.T.test_one",
        "app": "app0",
        "severity": "warning",
        "timeout": 2,
        "slow_after": 1.0,
        "every": 60,
        "maintainer": "shop",
        "runbook_url": "",
        "description": "Orders can be read.",
        "tags": ["db"],
        "databases": "__all__",
        "read_only": False,
        "is_collection_error": False,
    }
    assert two["timeout"] == 7
    assert (three["databases"], three["read_only"]) == (["default"], True)


def test_runs_and_stores_nothing(run: Run, tmp_path: Path, ran: Callable[[], int]) -> None:
    run("--list", smoke=counting(tmp_path))
    assert ran() == 0
    with override_settings(SMOKETEST_STATE_DIR=tmp_path / "state"):
        assert services.state().store.latest_results() == {}


def test_paused(run: Run) -> None:
    """Listing works while runs are paused."""
    run("--pause", "1h", "--reason", "x", smoke=SEVERAL)
    assert run("--list")[0] == 0


def test_collection_error(run: Run, apps: Apps) -> None:
    """Importable tests are listed; the collection error is printed and sets the exit code."""
    apps.add("raise RuntimeError('no such luck')")
    apps.add(SEVERAL)
    for arguments in ((), ("--tag", "db"), ("app1.smoke.T.test_one",)):
        code, stdout, stderr = run("--list", *arguments)
        assert code == 1
        assert stdout.startswith("app1.smoke.T.test_one\n")
        assert stderr == "app0.smoke cannot be imported: no such luck\n"


def test_secrets(run: Run, apps: Apps) -> None:
    """Secrets in declarations and in import errors are masked."""
    apps.add("""
    from django.conf import settings
    class T(SmokeTest):
        runbook_url = "https://user:the-password@wiki.example/"
        maintainer = settings.SHOP_API_KEY
        def test_one(self):
            "With the-hidden-1."
    """)
    apps.add("from django.conf import settings\nraise RuntimeError(settings.SHOP_API_KEY)")
    for kind in ("text", "json"):
        code, stdout, stderr = run("--list", "--format", kind, SHOP_API_KEY="the-hidden-1")
        assert code == 1
        assert "app0.smoke.T.test_one" in stdout
        assert stderr == f"app1.smoke cannot be imported: {MASK}\n"
        assert "the-hidden-1" not in stdout
        assert "the-password" not in stdout


def test_output(run: Run, tmp_path: Path) -> None:
    """With --output, the list is written only to the file."""
    path = tmp_path / "tests.txt"
    assert run("--list", "--output", str(path), smoke=SEVERAL) == (0, "", "")
    assert path.read_text().splitlines()[0] == "app0.smoke.T.test_one"


def test_overlooked(run: Run) -> None:
    """Tests that do not run are reported on stderr, so that a shell can read the ids."""
    code, stdout, stderr = run("--list", smoke=f"{SEVERAL}\ndef test_function():\n    pass\n")
    assert code == 0
    assert len(stdout.splitlines()) == 3
    assert stderr.startswith("Warning: app0.smoke.test_function() does not run, because it is a")
