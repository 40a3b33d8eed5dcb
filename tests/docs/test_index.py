"""docs/index.md, followed to the letter in an empty folder."""

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

PAGE = (DOCS / "index.md").read_text()
COMMANDS = commands(PAGE)
#: Done already: the tests run in such an environment. The wheel environment of tox installs.
IN_PLACE = [
    "python -m venv .venv",
    ". .venv/bin/activate",
    "pip install django-smoketest",
]
RUN = "python manage.py smoketest"
SERVE = "python manage.py runserver"


class FirstSite(Server):
    """The site of the page: its files are written and its commands run as they stand there."""

    name = "first-site"

    def prepare(self) -> None:
        for shown in COMMANDS[: COMMANDS.index(Shown(SERVE, ""))]:
            if shown.command not in IN_PLACE:
                self.type(shown.command)
        for _, content in blocks(PAGE, "python"):
            self.write(content)

    def write(self, content: str) -> None:
        """The first line says which file it is, and whether the file has more already."""
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
        """What `GET /smoketest/` answers after a run."""
        headers = {"Accept": accept, "Cache-Control": "no-cache"}
        return get(self.port, "/smoketest/", headers)


@pytest.fixture(scope="module")
def site() -> Iterator[FirstSite]:
    with FirstSite() as site:
        yield site


def test_page__leads_to_a_red_row_and_to_a_green_one(site: FirstSite) -> None:
    """The commands print what the page shows, and the site says the same in a browser."""
    (red, green) = (shown.output for shown in COMMANDS if shown.command == RUN)
    id_of_the_red = "orders.smoke.CustomersTest.test_customer_can_sign_up"

    done = site.type(RUN)
    assert (done.returncode, without_times(done.stdout)) == (1, without_times(red))
    answer = site.page()
    assert answer.status == 500
    assert re.search(r"<h1[^>]*>FAIL</h1>", answer.text)
    assert id_of_the_red in answer.text
    assert "no such table: auth_user" in answer.text
    assert site.page("*/*").status == 500  # as curl asks

    assert site.type("python manage.py migrate").returncode == 0
    done = site.type(RUN)
    assert (done.returncode, without_times(done.stdout)) == (0, without_times(green))
    answer = site.page()
    assert answer.status == 200
    assert re.search(r"<h1[^>]*>PASS</h1>", answer.text)
    (button,) = re.findall(r"Press \*(.+?)\*", PAGE)
    assert f">{button}</button>" in answer.text
    assert get(site.port, "/smoketest/metrics").status == 200

    code = "from django.contrib.auth.models import User; print(User.objects.count())"
    done = site.type(f"python manage.py shell --verbosity 0 --command {shlex.quote(code)}")
    assert done.stdout.strip() == "0"


def test_commands__each_is_followed() -> None:
    """A command that is new on the page needs a place above."""
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
