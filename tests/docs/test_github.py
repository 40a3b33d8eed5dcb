"""What GitHub reads: workflows, forms, policies. By its schemas, and against the checkout."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoketest import __version__
from tests.docs.markdown import BLOB, REPOSITORY, ROOT, anchors, links
from tests.servers.site import require_module

GITHUB = ROOT / ".github"
FORMS = sorted({*GITHUB.glob("ISSUE_TEMPLATE/*.yml")} - {GITHUB / "ISSUE_TEMPLATE/config.yml"})
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
#: The files, by the schema of them that check-jsonschema brings along.
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
}
#: The words of shell that stand before a command, or are one.
SHELL = {"test", "echo", "cd", "set"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for step in job.get("steps", []):
            yield name, step


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files__are_as_github_wants_them(schema: str) -> None:
    """YAML of the documented keys."""
    require_module("check_jsonschema", "check-jsonschema")
    files = SCHEMAS[schema]
    assert files
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_files__all_have_a_schema() -> None:
    """No YAML of GitHub's is left out."""
    known = {path for paths in SCHEMAS.values() for path in paths}
    assert {*GITHUB.rglob("*.yml"), *GITHUB.rglob("*.yaml")} == known
    assert [path.name for path in FORMS] == ["bug.yml", "idea.yml"]


# Workflows


def test_actions__are_pinned_and_say_their_version() -> None:
    """A tag can be moved, a commit cannot; Dependabot keeps both up to date."""
    used = [
        line
        for path in WORKFLOWS
        for line in re.findall(r"^\s*(?:- )?uses: (.*)$", path.read_text(), re.MULTILINE)
        if not line.startswith("./")
    ]
    assert used
    for line in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize(("name", "job"), list(jobs()))
def test_job__is_of_this_checkout_and_ends(name: str, job: dict[str, Any]) -> None:
    """A workflow that another calls is there, and no job may hang for hours."""
    if "uses" in job:
        assert (ROOT / job["uses"]).is_file()
    else:
        assert 0 < job["timeout-minutes"] <= 60, name


@pytest.mark.parametrize(
    "command",
    [line for _, step in steps() for line in step.get("run", "").splitlines() if line.strip()],
)
def test_run__names_commands_that_exist(command: str) -> None:
    """A script of the checkout, a target of the Makefile, a module of Python, or a program."""
    program, *arguments = shlex.split(command)
    if "/" in program:
        path = ROOT / program
        assert path.is_file()
        assert path.stat().st_mode & 0o111, f"{program} is not executable"
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{re.escape(arguments[0])}:", makefile, re.MULTILINE)
    elif program == "python":
        assert arguments[0] == "-m"
        assert arguments[1] in {"pip", *installed_by_release()}
    else:
        assert program in SHELL or shutil.which(program)


def installed_by_release() -> set[str]:
    """What the workflows install for themselves."""
    installs = re.compile(r"pip install (.*)")
    runs = [step.get("run", "") for _, step in steps()]
    return {name for run in runs for names in installs.findall(run) for name in names.split()}


def test_ci__runs_every_environment_once() -> None:
    """With the Python that it is for, or any."""
    (job,) = read(GITHUB / "workflows/ci.yml")["jobs"].values()
    matrix = job["strategy"]["matrix"]["include"]
    given = [(one["python"], name) for one in matrix for name in one["environments"].split(",")]
    assert sorted(name for _, name in given) == sorted(environments())
    for python, name in given:
        if version := re.match(r"py(\d)(\d+)-", name):
            assert f"{version[1]}.{version[2]}" == python, name


def environments() -> list[str]:
    """Of tox.ini, its braces resolved."""
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    found = []
    for line in tox["tox"]["env_list"].split("\n"):
        choices = [part.split(",") for part in re.split(r"[{}]", line.strip())]
        found += ["".join(parts) for parts in product(*choices)]
    return [name for name in found if name]


def test_ci__has_the_pythons_that_the_package_supports() -> None:
    (job,) = read(GITHUB / "workflows/ci.yml")["jobs"].values()
    pythons = {one["python"] for one in job["strategy"]["matrix"]["include"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert pythons == set(classified)


def test_ci__runs_the_script_with_options_that_make_hands_on() -> None:
    """`.ci/run` as it is; what differs from job to job is in a variable that the Makefile reads."""
    (step,) = (step for _, step in steps() if step.get("run") == ".ci/run")
    assert list(step["env"]) == ["TOX_ARGS"]
    assert "TOX_ARGS ?=" in (ROOT / "Makefile").read_text()
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_release__is_tested_and_built_before_it_is_published() -> None:
    """And only the job that publishes may; it runs nothing but GitHub's and PyPA's actions."""
    workflow = read(GITHUB / "workflows/release.yml")
    assert workflow["permissions"] == {}
    release = workflow["jobs"]
    assert release["build"]["needs"] == "test"
    assert release["publish"]["needs"] == "build"
    assert release["publish"]["permissions"] == {"id-token": "write"}
    assert not any("run" in step for step in release["publish"]["steps"])
    assert not any("secrets." in path.read_text() for path in WORKFLOWS)


# Forms, templates and policies


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_form__asks_for_what_is_needed(path: Path) -> None:
    """Each question has a name of its own, and at least one has to be answered."""
    form = read(path)
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    names = [question["id"] for question in questions]
    assert len(names) == len(set(names))
    assert any(q.get("validations", {}).get("required") for q in questions)


def linked() -> Iterator[tuple[str, str]]:
    """Every address in the files for GitHub, and the file that it stands in."""
    for path in sorted(GITHUB.rglob("*.*")):
        text = path.read_text()
        name = path.relative_to(ROOT).as_posix()
        for link in {*links(text), *re.findall(r"^ +url: (\S+)$", text, re.MULTILINE)}:
            yield link, name


@pytest.mark.parametrize(("link", "name"), sorted(linked()))
def test_link__leads_somewhere(link: str, name: str) -> None:
    """To a file of the checkout, or to a page that GitHub makes for each repository."""
    if not link.startswith(BLOB):
        assert link == f"{REPOSITORY}/security/advisories/new", name
        return
    path, _, anchor = link.removeprefix(BLOB).partition("#")
    assert (ROOT / path).is_file(), name
    assert not anchor or anchor in anchors((ROOT / path).read_text())


def test_security__supports_this_version() -> None:
    policy = (GITHUB / "SECURITY.md").read_text()
    major = __version__.partition(".")[0]
    assert re.search(rf"^\| {major}\.x \| yes", policy, re.MULTILINE)
