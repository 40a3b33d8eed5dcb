"""Scripts, workflows, manifests and units of docs/deploys.md, run as they are printed.

Programs of a production host (systemctl, kubectl, pip, a load balancer) are stubs that record
their calls. Paths, the URL of the site and times are replaced by those of the test.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from smoketest.cli.exits import Exit
from tests.docs.markdown import DOCS, blocks
from tests.servers.client import Response
from tests.servers.processes import wait_for
from tests.servers.services import find, require
from tests.servers.site import EXAMPLE, ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

PAGE = (DOCS / "deploys.md").read_text()
(ALIVE,) = blocks(PAGE, "python")
RELEASE, CANARY, ROLLOUT = blocks(PAGE, "bash")
WORKFLOW, DEPLOYMENT, EXEC_PROBE, JOB = blocks(PAGE, "yaml")
SERVICE, TIMER = blocks(PAGE, "ini")
BALANCER, CRON = blocks(PAGE, "text")
ADDRESS = "https://shop.example.com"
HOST = "shop.example.com"
TOKEN = "a-token-of-the-shop"
SETTINGS = """
from shop.settings import *

ALLOWED_HOSTS = ["127.0.0.1", {host!r}]
ROOT_URLCONF = "deployed_urls"
SMOKETEST_RUN_ON_SCRAPE = False  # no run but those of the test
SMOKETEST_STATE_DIR = ""  # as most sites: $STATE_DIRECTORY, of the service
SMOKETEST_TOKENS = {tokens!r}
"""
URLS = """
from shop.urls import urlpatterns as urls_of_shop

{alive}
urlpatterns += urls_of_shop
"""
#: A deadline that passes while the tests fail, and one that is never reached.
SHORT, LONG = "5s", "120s"
#: Log message of the site for a request for results.
RESPONSE_LOG = "answered /smoketest/ with"
#: Flag of a release that fails only after it is deployed.
BREAKS = "BREAKS_ON_RELOAD"
STUB = """#!/bin/sh
echo "$(basename "$0")" "$@" >> "$CALLS"
"""
STUBS = {
    "pip": STUB,
    "promote": STUB,
    "remove": STUB,
    "deploy": STUB,
    "systemctl": f'{STUB}[ -z "${BREAKS}" ] || echo orders > "$EXAMPLE_DATA_DIR/break"\n',
    "kubectl": f'{STUB}[ "$1" != exec ] || {{ shift 3; cd "{EXAMPLE}"; exec "$@"; }}\n',
    # A symlink would not use the virtual environment of the tests.
    "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
}


class Site(ExampleSite):
    """Example site with the liveness view of the page."""

    def __init__(self, *tokens: str) -> None:
        super().__init__(gunicorn(workers=1))  # a second worker would restart the stability check
        self.tokens = tokens

    def prepare(self) -> None:
        settings = SETTINGS.format(host=HOST, tokens=self.tokens)
        (self.folder / "deployed_settings.py").write_text(settings)
        (self.folder / "deployed_urls.py").write_text(URLS.format(alive=ALIVE.content))
        self.state_folder.mkdir()
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        return variables | {
            "PYTHONPATH": os.pathsep.join((str(self.folder), variables["PYTHONPATH"])),
            "DJANGO_SETTINGS_MODULE": "deployed_settings",
            "STATE_DIRECTORY": str(self.state_folder),
        }

    @property
    def state_folder(self) -> Path:
        return self.folder / "state"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
    ) -> Response:
        token = {"Authorization": f"Bearer {self.tokens[0]}"} if self.tokens else {}
        return super().get(path, token | dict(headers or {}), timeout=timeout)

    def runs(self) -> float:
        """Return the number of stored runs.

        The only worker serves requests in order, including those of disconnected clients, so no
        run of the site is in progress.
        """
        metrics = self.metrics()
        return sum(
            metrics.value("smoketest_runs_total", result=result) for result in ("passed", "failed")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Host with the folders of two releases and stubs of system programs."""

    site: Site
    folder: Path

    def text(self, block: str) -> str:
        """Return a block of the page with the paths and the URL of the test."""
        here = block.replace("/srv/shop", str(self.shop))
        return here.replace(ADDRESS, f"http://{self.site.address}")

    def environment(self, **variables: str) -> dict[str, str]:
        return self.site.environment() | {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.folder / "calls"),
            "SMOKETEST_TOKEN": TOKEN,
            "STABLE": "1s",
            "DEADLINE": LONG,
            **variables,
        }

    def start(self, block: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        script = self.folder / "script"
        script.write_text(self.text(block))
        return subprocess.Popen(
            ["bash", str(script), *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def bash(self, block: str, *arguments: str, **variables: str) -> tuple[int, str]:
        """Run a script and return its exit code and output."""
        process = self.start(block, *arguments, **variables)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def run(
        self, *command: str, cwd: Path = EXAMPLE, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def calls(self) -> list[str]:
        """Return the calls of the stubs."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def shop(self) -> Path:
        return self.folder / "srv" / "shop"

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def release(self) -> str:
        """Return the current release."""
        return (self.shop / "current").readlink().name

    def report(self, name: str) -> Path:
        """Return a JUnit file of release 2."""
        return self.shop / "reports" / "2" / name


@pytest.fixture(scope="module")
def protected_site() -> Iterator[Site]:
    """Start a site that requires a token."""
    with Site(TOKEN) as site:
        yield site


@pytest.fixture(scope="module")
def open_site() -> Iterator[Site]:
    """Start a site without tokens."""
    with Site() as site:
        yield site


@pytest.fixture
def host(protected_site: Site, tmp_path: Path) -> Iterator[Host]:
    """Set up a host with release 1 deployed and release 2 available."""
    protected_site.repair()
    host = Host(site=protected_site, folder=tmp_path)
    host.programs.mkdir()
    for name, script in STUBS.items():
        make_program(host.programs / name, script)
    for release in ("1", "2"):
        folder = host.shop / "releases" / release
        make_program(folder / ".venv" / "bin" / "python", STUBS["python"])
        for name in ("promote", "remove"):
            make_program(folder / name, STUBS[name])
        (folder / "manage.py").symlink_to(EXAMPLE / "manage.py")
    (host.shop / "current").symlink_to("releases/1")
    yield host
    protected_site.repair()


def make_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def problems(report: Path) -> int:
    """Return the number of failures and errors in a JUnit file."""
    root = ElementTree.fromstring(report.read_text())  # noqa: S314 - our own
    return int(root.attrib["errors"]) + int(root.attrib["failures"])


def test_page__all_blocks_are_tested() -> None:
    """The page has code blocks only in the languages that these tests cover."""
    languages = {"python", "bash", "yaml", "ini", "text"}
    assert {block.language for block in blocks(PAGE)} == languages


# Release script


def test_release__deployed_if_tests_pass(host: Host) -> None:
    """Both reports are stored, and no rollback happens."""
    code, output = host.bash(RELEASE.content, "2")
    assert code == Exit.PASSED, output
    assert host.release == "2"
    assert host.calls() == ["systemctl reload shop"]
    assert problems(host.report("before.xml")) == problems(host.report("after.xml")) == 0
    assert "passing for 1 of 1 s" in output


def test_release__not_deployed_if_tests_fail(host: Host) -> None:
    """The release is not switched, and the running site stores no result of the tests."""
    host.site.run_tests()
    runs = host.site.runs()
    host.site.break_("orders")
    code, output = host.bash(RELEASE.content, "2")
    assert code == Exit.FAILED, output
    assert (host.release, host.calls()) == ("1", [])
    assert problems(host.report("before.xml")) == 1
    assert not host.report("after.xml").exists()
    assert host.site.runs() == runs
    assert host.site.get("/smoketest/?only_if_cached=1").status == 200


def test_release__rolled_back_if_it_fails_after_deploy(host: Host) -> None:
    """The previous release is restored, and the exit code is that of the stability check."""
    code, output = host.bash(RELEASE.content, "2", DEADLINE=SHORT, **{BREAKS: "1"})
    assert code == Exit.TIMED_OUT, output
    assert "Rolling back to 1" in output
    assert host.release == "1"
    assert host.calls() == ["systemctl reload shop"] * 2
    assert problems(host.report("after.xml")) == 1


def test_release__rolled_back_if_cancelled(host: Host) -> None:
    """The previous release is restored if a pipeline sends SIGTERM to all processes."""
    process = host.start(RELEASE.content, "2", **{BREAKS: "1"})
    wait_for(lambda: host.release, lambda one: one == "2", what="the switch")
    requests = host.site.log.count(RESPONSE_LOG)
    wait_for(
        lambda: host.site.log.count(RESPONSE_LOG),
        lambda now: now > requests,
        what="the stability check",
    )
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode not in (Exit.PASSED, Exit.TIMED_OUT), output
    wait_for(lambda: host.release, lambda one: one == "1", what="the rollback")
    assert host.calls() == ["systemctl reload shop"] * 2


def test_release__requires_token(host: Host) -> None:
    """A missing token is detected before the release is switched."""
    code, output = host.bash(RELEASE.content, "2", SMOKETEST_TOKEN="")
    assert code != Exit.PASSED
    assert "SMOKETEST_TOKEN" in output
    assert host.calls() == []


# Canary


@pytest.mark.parametrize(
    ("broken", "token", "code", "call"),
    [
        ([], TOKEN, Exit.PASSED, "promote"),
        (["orders"], TOKEN, Exit.TIMED_OUT, "remove unhealthy"),
        ([], "an-unknown-token", Exit.USAGE, "remove not tested: fix this script"),
    ],
    ids=["passing", "failing", "untested"],
)
def test_canary(host: Host, broken: list[str], token: str, code: Exit, call: str) -> None:
    """The exit code decides what happens to the canary."""
    host.site.break_(*broken)
    deadline = SHORT if broken else LONG
    address = f"http://{host.site.address}/smoketest/"
    ended, output = host.bash(CANARY.content, address, SMOKETEST_TOKEN=token, DEADLINE=deadline)
    assert ended == code, output
    assert host.calls() == [call]


# GitHub Actions


class Workflow:
    """Script steps of a workflow, run like GitHub's runner."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.workspace = host.folder / "workspace"
        make_program(self.workspace / "deploy", STUBS["deploy"])
        self.definition = yaml.safe_load(host.text(WORKFLOW.content))
        self.secrets = {"SMOKETEST_TOKEN": TOKEN}

    def run(self, **variables: str) -> dict[str, int]:
        """Run the workflow and return the exit code of each script step, by name."""
        job = self.definition["jobs"]["deploy"]
        assert self.definition["defaults"]["run"]["shell"] == "bash"
        codes: dict[str, int] = {}
        for step in job["steps"]:
            has_failed = any(codes.values())
            condition = {
                "success()": not has_failed,
                "always()": True,
                "failure() || cancelled()": has_failed,
            }
            if "run" in step and condition[step.get("if", "success()")]:
                environment = self.evaluate({**job["env"], **step.get("env", {})})
                codes[step["name"]] = self.script(step["run"], environment | variables)
        return codes

    def evaluate(self, environment: Mapping[str, Any]) -> dict[str, str]:
        def secret(match: re.Match[str]) -> str:
            return self.secrets[match[1]]

        pattern = r"\$\{\{ secrets\.(\w+) \}\}"
        return {name: re.sub(pattern, secret, str(one)) for name, one in environment.items()}

    def script(self, content: str, environment: dict[str, str]) -> int:
        path = self.host.folder / "step"
        path.write_text(content)
        variables = self.host.environment(GITHUB_SHA="c0ffee")
        # The runner sees only the secrets of the step, and no settings of the site.
        for foreign in ("SMOKETEST_TOKEN", "DJANGO_SETTINGS_MODULE", "STABLE", "DEADLINE"):
            del variables[foreign]
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(path)],
            cwd=self.workspace,
            env=variables | environment,
            check=False,
            timeout=300,
        )
        return done.returncode

    @property
    def report(self) -> Path:
        """Return the report that the upload step would store."""
        (path,) = (
            step["with"]["path"]
            for step in self.definition["jobs"]["deploy"]["steps"]
            if step.get("uses", "").startswith("actions/upload-artifact@")
        )
        return self.workspace / path


def test_workflow__passes(host: Host) -> None:
    """The report is written, and no rollback happens."""
    workflow = Workflow(host)
    codes = workflow.run(STABLE="1s", DEADLINE=LONG)
    assert set(codes.values()) == {Exit.PASSED}
    assert problems(workflow.report) == 0
    assert host.calls() == ["deploy c0ffee", "pip install django-smoketest"]


def test_workflow__rolls_back(host: Host) -> None:
    """The report contains the failure."""
    host.site.break_("orders")
    workflow = Workflow(host)
    codes = workflow.run(STABLE="1s", DEADLINE=SHORT)
    assert codes["Smoke tests"] == Exit.TIMED_OUT
    assert problems(workflow.report) == 1
    assert host.calls()[-1] == "deploy --previous"


def test_workflow__missing_secret(host: Host) -> None:
    """An untested release is rolled back, and no report is written."""
    workflow = Workflow(host)
    workflow.secrets["SMOKETEST_TOKEN"] = ""
    assert workflow.run()["Smoke tests"] == Exit.USAGE
    assert not workflow.report.exists()
    assert host.calls()[-1] == "deploy --previous"


# Kubernetes


def container() -> dict[str, Any]:
    deployment = yaml.safe_load(DEPLOYMENT.content)
    (one,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = one
    return found


def probe(site: Site, name: str) -> Response:
    """Return the response of the site to a probe of the Deployment."""
    http_get = container()[name]["httpGet"]
    assert http_get["port"] in [port["name"] for port in container()["ports"]]
    headers = {header["name"]: header["value"] for header in http_get["httpHeaders"]}
    return site.get(http_get["path"], headers)


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def test_probes__healthy(open_site: Site) -> None:
    """All probes pass, and the readiness probe is served from the store."""
    open_site.repair()
    open_site.run_tests()
    time.sleep(0.1)
    answers = {name: probe(open_site, name) for name in PROBES}
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(PROBES, 200)
    assert int(answers["readinessProbe"].headers["Age"]) >= 1
    assert answers["readinessProbe"].text.startswith("PASS\n")


def test_probes__unhealthy(open_site: Site) -> None:
    """Only the readiness probe fails, so the pod gets no traffic but is not restarted."""
    open_site.break_("cache")
    try:
        open_site.run_tests()
        statuses = {name: probe(open_site, name).status for name in PROBES}
    finally:
        open_site.repair()
    assert statuses == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 500}


def test_probes__without_host_header(open_site: Site) -> None:
    """Without the Host header of the manifest, Django rejects the request."""
    for name in PROBES:
        path = container()[name]["httpGet"]["path"]
        assert open_site.get(path, {"Host": "10.1.2.3:8000"}).status == 400


def test_probes__no_stored_result(open_site: Site) -> None:
    """A new pod is not ready until the tests have run."""
    (parameters,) = set(re.findall(r"`(max_age=\d+&only_if_cached=1)`", PAGE))
    paths = (f"/smoketest/?tag=readiness&{parameters}", balancer_path())
    open_site.repair()
    open_site.variables["EXAMPLE_RELEASE"] = "the next one"
    open_site.restart()
    assert [open_site.get(path).status for path in paths] == [504, 504]
    open_site.run_tests()
    assert [open_site.get(path).status for path in paths] == [200, 200]


def test_exec_probe(host: Host) -> None:
    """The probe fails without a token or if a test fails."""
    require("curl")
    command = yaml.safe_load(EXEC_PROBE.content)["readinessProbe"]["exec"]["command"]
    command[-1] = command[-1].replace("127.0.0.1:8000", host.site.address)

    host.site.run_tests()
    assert host.run(*command).returncode == 0
    assert host.run(*command, SMOKETEST_TOKEN="").returncode != 0
    host.site.break_("cache")
    host.site.run_tests()
    assert host.run(*command).returncode != 0


@pytest.mark.parametrize(
    ("broken", "code"), [([], Exit.PASSED), (["orders"], Exit.FAILED)], ids=["passing", "failing"]
)
def test_job(host: Host, broken: list[str], code: Exit) -> None:
    """The Job completes or fails according to the exit code of the command."""
    (one,) = yaml.safe_load(JOB.content)["spec"]["template"]["spec"]["containers"]
    host.site.break_(*broken)
    assert host.run(*one["command"]).returncode == code


def test_rollout__passes(host: Host) -> None:
    (host.folder / "smoke_settings.py").write_text('INSTALLED_APPS = ["smoketest"]\n')
    code, output = host.bash(ROLLOUT.content, "shop:2")
    assert code == Exit.PASSED, output
    assert host.calls() == [
        "kubectl set image deployment/shop web=shop:2",
        "kubectl rollout status deployment/shop --timeout=6m",
        "kubectl exec deployment/shop -- python manage.py smoketest",
    ]


def test_rollout__undone(host: Host) -> None:
    """The deployment is rolled back, and the script exits with the code of the command."""
    host.site.break_("orders")
    code, output = host.bash(ROLLOUT.content, "shop:2")
    assert code == Exit.FAILED, output
    assert host.calls()[-1] == "kubectl rollout undo deployment/shop"


# Load balancers


def balancer_path() -> str:
    (path,) = re.findall(r"option httpchk GET (\S+)", BALANCER.content)
    return str(path)


def test_load_balancer(open_site: Site) -> None:
    """The health check is served from the store."""
    open_site.repair()
    open_site.run_tests()
    assert open_site.get(balancer_path()).status == 200
    open_site.break_("cache")
    try:
        open_site.run_tests()
        assert open_site.get(balancer_path()).status == 500
    finally:
        open_site.repair()


# systemd and cron


def unit(content: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] - systemd is case-sensitive
    parser.read_string(content)
    return parser


def test_units__are_valid(host: Host) -> None:
    """The unit files and their names pass `systemd-analyze verify`."""
    service, timer = re.findall(r"`/etc/systemd/system/([\w.-]+)`:$", PAGE, re.MULTILINE)
    assert (service.rpartition(".")[0], "timer") == tuple(timer.rsplit(".", 1))
    if find("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, block in ((service, SERVICE), (timer, TIMER)):
        (host.folder / name).write_text(host.text(block.content))
    done = host.run("systemd-analyze", "verify", f"./{timer}", f"./{service}", cwd=host.folder)
    assert (done.returncode, done.stderr) == (0, "")


def start_service(host: Host, **variables: str) -> subprocess.Popen[str]:
    """Start the service as systemd does, with the state directory of the site."""
    service = unit(host.text(SERVICE.content))["Service"]
    assert service["StateDirectory"]
    return subprocess.Popen(
        shlex.split(service["ExecStart"]),
        cwd=service["WorkingDirectory"],
        env=host.environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("broken", "code"), [([], Exit.PASSED), (["orders"], Exit.FAILED)], ids=["passing", "failing"]
)
def test_service__stores_result(host: Host, broken: list[str], code: Exit) -> None:
    """The run of the timer is stored for the site."""
    before = host.site.runs()
    host.site.break_(*broken)
    service = start_service(host)
    output, _ = service.communicate(timeout=300)
    assert service.returncode == code, output
    assert str(host.site.state_folder) in output
    assert host.site.runs() == before + 1
    assert host.site.metrics().value("smoketest_last_run_success") == (not broken)


def test_service__stopped(host: Host) -> None:
    """Stopping the service during a run does not count as a failure."""
    service = start_service(host, EXAMPLE_SLEEP="30")
    assert service.stdout
    assert service.stdout.readline().startswith("Running ")
    service.terminate()
    output, _ = service.communicate(timeout=300)
    clean = unit(SERVICE.content)["Service"]["SuccessExitStatus"].split()
    assert str(service.returncode) in clean, output


def test_cron__mails_only_failures(host: Host) -> None:
    """Output appears only on failure, as cron mails it. An unescaped % would end the command."""
    *schedule, _user, command = host.text(CRON.content).strip().split(maxsplit=6)
    assert len(schedule) == 5
    assert "%" not in command
    assert host.run("sh", "-c", command).stdout == ""
    host.site.break_("orders")
    mailed = host.run("sh", "-c", command).stdout
    assert "PlaceOrderTest.test_order_can_be_placed" in mailed
    assert "FAIL\n" in mailed
