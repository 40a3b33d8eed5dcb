"""Tests of docs/writing.md and docs/client.md: the modules run in a new project.

On docs/writing.md, the report of each module is below it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
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


#: The page that the example of docs/client.md requests.
URLS = """
from django.contrib.auth.decorators import login_required
from django.core.mail import send_mail
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST
from orders.models import Order

@login_required
@require_POST
def order(request):
    Order.objects.create(reference=request.POST["product"])
    send_mail("Your order", "", None, [request.user.email])
    return HttpResponse("Thank you")

urlpatterns = [path("order/", order)]
"""
CUSTOMER = """
from django.contrib.auth.models import User
User.objects.create_user("smoketest", "smoketest@example.com")
"""


class Example(NamedTuple):
    smoke: str
    #: Lines of the report on the page: the status, and one for each problem.
    report: list[str]

    @property
    def name(self) -> str:
        """Name of the module in the project."""
        return f"example{EXAMPLES.index(self)}"


def examples() -> list[Example]:
    """Return the modules of both pages, each with its report."""
    found = blocks(PAGE, "python", "text")
    modules, reports = found[::2], found[1::2]
    assert {block.language for block in modules} == {"python"}
    assert {block.language for block in reports} == {"text"}
    return [
        Example(module.content, report.content.splitlines())
        for module, report in zip(modules, reports, strict=True)
    ] + [
        Example(block.content, ["PASS"])
        for block in blocks((DOCS / "client.md").read_text(), "python")
    ]


EXAMPLES = examples()


class Project:
    """A new Django project with an app that contains each example as a smoke module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.django("-m", "django", "startproject", "shop", ".")
        self.django("-m", "django", "startapp", "orders")
        (folder / "orders" / "models.py").write_text(MODELS)
        with (folder / "shop" / "settings.py").open("a") as settings:
            settings.write('INSTALLED_APPS += ["orders", "smoketest"]\n')
        (folder / "shop" / "urls.py").write_text(URLS)
        self.django("manage.py", "makemigrations", "orders")
        self.django("manage.py", "migrate", "--verbosity=0")
        self.django("manage.py", "shell", "--verbosity=0", f"--command={CUSTOMER}")
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
    """Return the JSON report of a run of all examples."""
    done = project.django("manage.py", "smoketest", "--format=json", check=False)
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example__has_the_shown_report(report: dict[str, Any], example: Example) -> None:
    """The status and the problems are as shown; dots at the end of a line stand for more text."""
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


def test_examples__are_found() -> None:
    """The pattern finds passing and failing examples."""
    assert len(EXAMPLES) >= 10
    assert {example.report[0] for example in EXAMPLES} == {"PASS", "FAIL"}


def test_examples__skips_and_descriptions(report: dict[str, Any]) -> None:
    """Outcomes and metadata that the shown reports do not contain."""
    by_name = {one["id"].rpartition(".")[2]: one for one in report["results"]}
    assert by_name["test_list_is_reachable"]["outcome"] == "skipped"
    assert by_name["test_carrier_answers"]["outcome"] == "timed_out"
    declared = by_name["test_no_payment_is_overdue"]
    assert declared["severity"] == "warning"
    assert (declared["timeout"], declared["every"]) == (2, 300)
    assert declared["maintainer"] == "payments"
    assert declared["description"] == "No payment has been pending for more than an hour."
    assert by_name["test_cart"]["tags"] == ["checkout", "readiness"]


def test_examples__are_rolled_back(project: Project, report: dict[str, Any]) -> None:
    assert report["tests_run"] > 0
    code = "from orders.models import Order; print(Order.objects.count())"
    done = project.django("manage.py", "shell", "--verbosity=0", f"--command={code}")
    assert done.stdout.strip() == "0"


def test_pytest(tmp_path: Path) -> None:
    """pytest collects smoke modules with the shown configuration, and rolls back their tests."""
    project = Project(tmp_path)
    twice = "Order.objects.create(reference='x')\n        assert Order.objects.count() == 1\n"
    shutil.rmtree(tmp_path / "orders" / "smoke")
    (tmp_path / "orders" / "smoke.py").write_text(
        "from orders.models import Order\nfrom smoketest import SmokeTest\n"
        "class OrdersTest(SmokeTest):\n"
        f"    def test_1(self):\n        {twice}"
        f"    def test_2(self):\n        {twice}"
    )
    (configuration,) = blocks(PAGE, "ini")
    (tmp_path / "pytest.ini").write_text(configuration.content)
    done = project.django("-m", "pytest", "-p", "no:cacheprovider", check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


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
def test_command__is_valid(project: Project, shown: Any) -> None:
    """The endpoint, ``smoketest`` or Django's ``test`` accepts the command."""
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
