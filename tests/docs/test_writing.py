"""docs/writing.md: each of its modules gives, in a new project, the report below it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.http import QueryDict
from django.test import RequestFactory

import smoketest
from smoketest.case import METHOD_OPTIONS, SmokeTest
from smoketest.management.commands import smoketest as command
from smoketest.web.query import parse_query
from tests.docs.markdown import DOCS, blocks, commands
from tests.servers.site import clean_environment

PAGE = (DOCS / "writing.md").read_text()
MODELS = """
from django.db import models

class Order(models.Model):
    reference = models.CharField(max_length=20)
    is_late = models.BooleanField(default=False)
"""


class Example(NamedTuple):
    smoke: str
    #: As the page shows it: the status, and a line for each problem.
    report: list[str]

    @property
    def name(self) -> str:
        """Of its module in the project."""
        return f"example{EXAMPLES.index(self)}"


def examples() -> list[Example]:
    """Every module of the page, with the report that stands right below it."""
    found = blocks(PAGE, "python", "text")
    modules, reports = found[::2], found[1::2]
    assert {block.language for block in modules} == {"python"}
    assert {block.language for block in reports} == {"text"}
    return [
        Example(module.content, report.content.splitlines())
        for module, report in zip(modules, reports, strict=True)
    ]


EXAMPLES = examples()


class Project:
    """As ``startproject`` makes it, with an app that holds each example as a smoke module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.django("-m", "django", "startproject", "shop", ".")
        self.django("-m", "django", "startapp", "orders")
        (folder / "orders" / "models.py").write_text(MODELS)
        with (folder / "shop" / "settings.py").open("a") as settings:
            settings.write('INSTALLED_APPS += ["orders", "smoketest"]\n')
        self.django("manage.py", "makemigrations", "orders")
        self.django("manage.py", "migrate", "--verbosity=0")
        smoke = folder / "orders" / "smoke"
        smoke.mkdir()
        (smoke / "__init__.py").touch()
        for example in EXAMPLES:
            (smoke / f"{example.name}.py").write_text(example.smoke)

    def django(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = clean_environment() | {
            "PYTHONPATH": str(Path(smoketest.__file__).parents[1]),
            "TMPDIR": str(self.folder),
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=600,
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def report(project: Project) -> dict[str, Any]:
    """Of one run of all examples."""
    done = project.django("manage.py", "smoketest", "--format=json", check=False)
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example__gives_what_the_page_shows(report: dict[str, Any], example: Example) -> None:
    """Status and problems; the dots at the end of a line stand for more of it."""
    module = f"orders.smoke.{example.name}"
    own = [one for one in report["results"] if f"{one['id']}.".startswith(f"{module}.")]
    assert own
    lines = [*report["failed_tests"], *report["errored_tests"]]
    problems = [
        line.replace(module, "orders.smoke")
        for line in lines
        if re.match(rf"{re.escape(module)}[ .]", line)
    ]
    status, *expected = example.report
    assert status == ("FAIL" if problems else "PASS")
    assert len(problems) == len(expected)
    for line, shown in zip(sorted(problems), sorted(expected), strict=True):
        assert line.startswith(shown.removesuffix("...")), line
        assert shown.endswith("...") or line == shown


def test_examples__all_are_there() -> None:
    """Passing and failing ones; a page without examples would pass all tests."""
    assert len(EXAMPLES) >= 10
    assert {example.report[0] for example in EXAMPLES} == {"PASS", "FAIL"}


def test_examples__skips_and_descriptions(report: dict[str, Any]) -> None:
    """What a status alone does not show."""
    by_name = {one["id"].rpartition(".")[2]: one for one in report["results"]}
    assert by_name["test_list_is_reachable"]["outcome"] == "skipped"
    assert by_name["test_carrier_answers"]["outcome"] == "timed_out"
    declared = by_name["test_few_payments_wait"]
    assert declared["severity"] == "warning"
    assert (declared["timeout"], declared["every"]) == (2, 300)
    assert declared["maintainer"] == "payments"
    assert declared["description"].startswith("What waits for an hour")
    assert by_name["test_cart"]["tags"] == ["checkout", "readiness"]


def test_examples__leave_nothing_behind(project: Project, report: dict[str, Any]) -> None:
    """Of all that they write, on the page that says so."""
    assert report["tests_run"] > 0
    code = "from orders.models import Order; print(Order.objects.count())"
    done = project.django("manage.py", "shell", "--verbosity=0", f"--command={code}")
    assert done.stdout.strip() == "0"


# The table


def test_table__has_every_attribute_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", PAGE, re.MULTILINE))
    assert set(rows) - set(METHOD_OPTIONS) == {"databases", "read_only"}
    assert set(METHOD_OPTIONS) <= set(rows)
    assert {name: repr(getattr(SmokeTest, name)) for name in rows} == {
        name: default.replace('"', "'") for name, default in rows.items()
    }


# Commands


@pytest.mark.parametrize("shown", commands(PAGE), ids=lambda shown: shown.command)
def test_command__is_one(project: Project, shown: Any) -> None:
    """What the page types is taken: by the endpoint, by our command, by Django's."""
    program, *arguments = shlex.split(shown.command)
    if program == "curl":
        (address,) = arguments
        request = RequestFactory().get(address.removeprefix("http://127.0.0.1:8000"))
        assert parse_query(request).selection.tags == tuple(
            QueryDict(address.partition("?")[2]).getlist("tag")
        )
        return
    assert program == "python"
    assert arguments[0] == "manage.py"
    if arguments[1] == "smoketest":
        command.Command().create_parser("", "").parse_args(arguments[2:])
        return
    assert arguments == ["manage.py", "test", "orders.smoke"]
    done = project.django("manage.py", "test", f"orders.smoke.{EXAMPLES[0].name}", check=False)
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr
