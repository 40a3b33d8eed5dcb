"""CONTRIBUTING.md: its commands exist, its tables are whole, and each tool has its reason."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.docs.markdown import ROOT, blocks, links, place
from tests.docs.test_github import environments, read

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Those that only whoever releases installs, by the workflow.
OF_A_RELEASE = {"build", "twine"}


def typed() -> list[str]:
    """Each command of the page: those of the consoles, and of the text."""
    indented = re.sub(r"^ {4}", "", PAGE, flags=re.MULTILINE)  # inside of a list
    found = [line for block in blocks(indented, "console") for line in block.content.splitlines()]
    assert all(line.startswith("$ ") for line in found)
    in_text = re.findall(r"`((?:make|gh|\.ci/run)\b[^`]*)`", PAGE)
    commands = [part for line in found for part in line[2:].split("&&")]
    return sorted({*(command.partition(" #")[0].strip() for command in commands), *in_text})


@pytest.mark.parametrize("command", typed())
def test_command__exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    check = {
        "make": make,
        ".venv/bin/pytest": pytest_collects,
        ".venv/bin/python": python,
        ".venv/bin/ruff": ruff,
        ".ci/run": lambda: None,
        "git": git,
        "gh": attestation,
    }[program]
    check(*arguments)


def make(target: str = "help", *variables: str) -> None:
    """Its target is there, and it reads the variables."""
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"make {target}"
    for variable in variables:
        name, _, value = variable.partition("=")
        assert f"{name} ?=" in MAKEFILE
        assert value.removeprefix("-e ") in environments()


def pytest_collects(*arguments: str) -> None:
    """There are such tests."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *narrowed(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def narrowed(arguments: tuple[str, ...]) -> Iterator[str]:
    """What has no path would collect everything, this test among it."""
    yield from arguments
    if not any(argument.startswith("tests") for argument in arguments):
        yield "tests/test_results.py"


def python(*arguments: str) -> None:
    """The module is there, or what a release needs."""
    assert arguments[0] == "-m"
    assert arguments[1] in OF_A_RELEASE or find_spec(arguments[1])


def ruff(*arguments: str) -> None:
    assert arguments == ("format",)


def git(*arguments: str) -> None:
    """A tag that starts the workflow."""
    workflow = read(ROOT / ".github/workflows/release.yml")
    (pattern,) = workflow[True]["push"]["tags"]  # to YAML 1.1, `on` is true
    assert pattern == "v*"
    assert any(re.fullmatch(r"v\d+\.\d+\.\d+", argument) for argument in arguments)


def attestation(*arguments: str) -> None:
    assert arguments[:2] == ("attestation", "verify")


def test_commands__are_found() -> None:
    assert {shlex.split(command)[0] for command in typed()} == {
        *("make", "git", "gh", ".ci/run"),
        *(".venv/bin/pytest", ".venv/bin/python", ".venv/bin/ruff"),
    }


def test_environments__are_those_of_tox() -> None:
    """Of the matrix, the page has the pattern and what is special."""
    rows = re.findall(r"^\| (`.*`) \|", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    matrix = {name for name in environments() if re.fullmatch(r"py\d+-django\d+", name)}
    assert told - {"pyXY-djangoXY"} == {*(set(environments()) - matrix), "py311-django52"}
    assert "py311-django52" in matrix


@pytest.mark.parametrize("link", sorted(set(links(PAGE))))
def test_link__leads_somewhere(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).is_file()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:\.\w+|\w+)/[\w./]+\.\w+|[A-Z]+\.md)`", PAGE)))
)
def test_path__exists(path: str) -> None:
    assert place(path).is_file()


# The tools


def tools() -> set[str]:
    """All that is installed to build, test and look at the package, in lower case."""
    groups = PROJECT["dependency-groups"].values()
    requirements = [one for group in groups for one in group if isinstance(one, str)]
    requirements += PROJECT["build-system"]["requires"]
    named = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]
    return named | OF_A_RELEASE


def test_tools__each_has_its_reason() -> None:
    """And no reason is left of one that has gone."""
    reasons = PAGE.partition("## Why each tool is here")[2]
    told = {name.lower() for name in re.findall(r"\*\*([\w-]+)\*\*", reasons)}
    # The first is installed by tox, for some environments alone, the second as an extra of a tool.
    assert told - tools() <= {"django-prometheus", "mypy"}
    assert tools() - told == set()


# Releases


def test_trusted_publisher__is_the_workflow() -> None:
    """What an owner has to type on PyPI is what the workflow is and says."""
    releases = PAGE.partition("## To release")[2]
    said = set(re.findall(r"(owner|repository|workflow|environment) `([\w.-]+)`", releases))
    given = dict(said)
    assert len(given) == len(said) == 4  # it says the same each time
    assert PROJECT["project"]["urls"]["Homepage"].endswith(
        f"/{given['owner']}/{given['repository']}"
    )
    workflow = read(ROOT / ".github/workflows" / given["workflow"])
    assert workflow["jobs"]["publish"]["environment"] == given["environment"]
