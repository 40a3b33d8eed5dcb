"""Commands of docs/monitoring.md, run as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.processes import wait_for
from tests.servers.services import require
from tests.servers.site import ROOT, ExampleSite

pytestmark = pytest.mark.e2e

PAGE = (ROOT / "docs/monitoring.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
CURL, ASSETS, CHECK, PROMETHEUS, CHECK_ALERTS, ALERTMANAGER, ROUTES, REPLICAS = COMMANDS


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    with ExampleSite() as started:
        yield started


@pytest.fixture(scope="module")
def folder(site: ExampleSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the files that the command of the page writes."""
    parent = tmp_path_factory.mktemp("steps")
    _, _, command, name, *rest = shlex.split(ASSETS)
    done = site.manage(command, str(parent / name), *rest)
    assert f"wrote {parent / name}/prometheus/prometheus.yml" in done.stdout
    return parent


def run(command: str, folder: Path) -> str:
    """Run a command of the page and return its output."""
    name, *arguments = shlex.split(command)
    done = subprocess.run(
        [require(name), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_metrics(site: ExampleSite) -> None:
    """The build info is available immediately, and the tests after the first run."""
    url = CURL.split()[2]
    assert url == "http://localhost:8000/smoketest/metrics"
    path = url.removeprefix("http://localhost:8000")
    lines = [line for line in site.get(path).text.splitlines() if "smoketest_build_info" in line]
    assert len([line for line in lines if not line.startswith("#")]) == 1
    wait_for(
        lambda: site.get(path).text,
        lambda text: "smoketest_tests " in text,
        what="a run",
    )


def test_files__are_valid(folder: Path) -> None:
    """promtool and amtool accept the files."""
    assert "SUCCESS" in run(CHECK, folder)
    assert "SUCCESS" in run(CHECK_ALERTS, folder)


def test_files__used_by_start_commands(folder: Path) -> None:
    """The configuration files in the start commands exist. Starting them is tested elsewhere."""
    for command in (PROMETHEUS, ALERTMANAGER):
        file = shlex.split(command)[1].removeprefix("--config.file=")
        assert (folder / file).is_file()
        assert ".path=" in command, "the default folder belongs to another user"


def test_routes(folder: Path) -> None:
    """A failing critical test is routed to the receiver of its maintainer."""
    assert run(ROUTES, folder).splitlines()[0] == "payments-pager"


def test_replicas(site: ExampleSite, folder: Path) -> None:
    """The command adds labels to every list of replica labels, and the rules stay valid."""
    _, _, command, name, *arguments = shlex.split(REPLICAS)
    site.manage(command, str(folder / name), *arguments)
    rules = (folder / "monitoring/prometheus/rules/smoketest.yml").read_text()
    lists = rules.count("instance, pod, container, endpoint, node")
    assert lists == rules.count("node, host, pod_template_hash") > 10
    assert "SUCCESS" in run(CHECK, folder)


def test_pause(site: ExampleSite) -> None:
    """The commands that the page links to work."""
    (link,) = re.findall(r"\[pause the runs\]\(([\w.]+)#maintenance\)", PAGE)
    linked = (ROOT / "docs" / link).read_text().partition("## Maintenance\n")[2]
    pause, resume = re.findall(r"^\$ python manage.py (smoketest .*)$", linked, re.MULTILINE)[:2]
    site.manage(*shlex.split(pause))
    assert "moving the database" in site.get("/smoketest/?format=text").text
    site.manage(*shlex.split(resume))


def test_operator(site: ExampleSite, folder: Path) -> None:
    """The folder for kubectl contains the resources."""
    (path,) = re.findall(r"`kubectl apply -f (.*?)`", PAGE)
    site.manage("smoketest_assets", str(folder / "monitoring"), "--job=shop", "--operator")
    assert sorted(file.name for file in (folder / path).iterdir()) == [
        "alertmanagerconfig.yml",
        "dashboards.yml",
        "prometheusrule.yml",
        "servicemonitor.yml",
    ]
