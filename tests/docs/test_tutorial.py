"""Tests of docs/tutorial.md: its steps are followed in an empty directory."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smoketest
from tests.docs.markdown import DOCS, Shown, blocks, commands, without_times
from tests.servers.client import Response, get
from tests.servers.processes import Server
from tests.servers.site import clean_environment

pytestmark = pytest.mark.e2e

PAGE = (DOCS / "tutorial.md").read_text()
COMMANDS = commands(PAGE)
#: Not run, because the tests already run in such an environment.
IN_PLACE = [
    "python -m venv .venv",
    ". .venv/bin/activate",
    "pip install django-smoketest",
]
RUN = "python manage.py smoketest"
SERVE = "python manage.py runserver"


class FirstSite(Server):
    """The site of the tutorial, with its files and after its commands."""

    name = "first-site"

    def prepare(self) -> None:
        for shown in COMMANDS[: COMMANDS.index(Shown(SERVE, ""))]:
            if shown.command not in IN_PLACE:
                self.type(shown.command)
        for _, content in blocks(PAGE, "python"):
            self.write(content)

    def write(self, content: str) -> None:
        """Write the file that the first line names, or append to it."""
        heading = re.match(r"# (\S+\.py)(, at the end)?\n", content)
        assert heading, content
        path = self.folder / heading[1]
        before = path.read_text() if heading[2] else ""
        path.write_text(before + content)

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        program, *arguments = shlex.split(command)
        programs = {
            "python": [sys.executable],
            "django-admin": [sys.executable, "-m", "django"],
        }
        return self.run(*programs[program], *arguments, check=False)

    def command(self) -> list[str]:
        _, *arguments = shlex.split(SERVE)
        return [sys.executable, *arguments, self.address, "--noreload"]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "PYTHONPATH": str(Path(smoketest.__file__).parents[1]),
            "TMPDIR": str(self.folder),
        }

    def is_ready(self) -> bool:
        return get(self.port, "/nothing").status == 404

    def page(self, accept: str = "text/html") -> Response:
        """Return the response of `GET /smoketest/` after a run."""
        headers = {"Accept": accept, "Cache-Control": "no-cache"}
        return get(self.port, "/smoketest/", headers)


@pytest.fixture(scope="module")
def site() -> Iterator[FirstSite]:
    with FirstSite() as site:
        yield site


def test_steps__lead_to_a_failing_and_to_a_passing_test(site: FirstSite) -> None:
    """The commands print the shown output, and the HTML page shows the same results."""
    (failing, passing) = (shown.output for shown in COMMANDS if shown.command == RUN)
    failing_id = "orders.smoke.CustomersTest.test_customer_can_sign_up"

    done = site.type(RUN)
    assert (done.returncode, without_times(done.stdout)) == (1, without_times(failing))
    response = site.page()
    assert response.status == 500
    assert re.search(r"<h1[^>]*>FAIL</h1>", response.text)
    assert failing_id in response.text
    assert "no such table: auth_user" in response.text
    assert site.page("*/*").status == 500  # like curl

    assert site.type("python manage.py migrate").returncode == 0
    done = site.type(RUN)
    assert (done.returncode, without_times(done.stdout)) == (0, without_times(passing))
    response = site.page()
    assert response.status == 200
    assert re.search(r"<h1[^>]*>PASS</h1>", response.text)
    (button,) = re.findall(r"Press \*(.+?)\*", PAGE)
    assert f">{button}</button>" in response.text
    assert get(site.port, "/smoketest/metrics").status == 200

    code = "from django.contrib.auth.models import User; print(User.objects.count())"
    done = site.type(f"python manage.py shell --verbosity 0 --command {shlex.quote(code)}")
    assert done.stdout.strip() == "0"


def test_commands__are_all_tested() -> None:
    assert [shown.command for shown in COMMANDS] == [
        *IN_PLACE,
        "django-admin startproject shop .",
        "python manage.py startapp orders",
        SERVE,
        RUN,
        "python manage.py migrate",
        RUN,
    ]
    assert not {shown.command for shown in COMMANDS if shown.output} - {RUN}
