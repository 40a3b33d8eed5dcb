"""Instructions of the README, followed in an empty folder."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smoketest
from tests.servers.client import get
from tests.servers.processes import Server
from tests.servers.prometheus import Prometheus
from tests.servers.services import require
from tests.servers.site import ROOT, clean_environment

pytestmark = pytest.mark.e2e

README = (ROOT / "README.md").read_text()
SETTINGS, URLS, SMOKE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
OUTPUTS = {
    command: output
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
}
#: Do not accept the stored result of another test.
NO_CACHE = {"Cache-Control": "no-cache"}
MODELS = """
from django.db import models

class Order(models.Model):
    reference = models.CharField(max_length=20)
    is_late = models.BooleanField(default=False)
"""


class NewSite(Server):
    """Project created by ``startproject``, with an app that contains the README's smoke.py."""

    name = "new-site"

    def prepare(self) -> None:
        django = (sys.executable, "-m", "django")
        self.run(*django, "startproject", "site1", ".")
        self.run(*django, "startapp", "orders")
        self.write("orders/models.py", MODELS)
        self.write("orders/smoke.py", SMOKE)
        installed = SETTINGS.replace("# ...", "*INSTALLED_APPS, 'orders',")
        self.write("site1/settings.py", f"{self.read('site1/settings.py')}\n{installed}")
        self.write("site1/urls.py", f"{URLS.replace('# ...', '')}")
        self.manage("makemigrations", "orders")
        self.manage("migrate")

    def command(self) -> list[str]:
        gunicorn = [sys.executable, "-m", "gunicorn", "--no-control-socket"]
        return [*gunicorn, "--workers=2", f"--bind={self.address}", "site1.wsgi"]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "PYTHONPATH": str(Path(smoketest.__file__).parents[1]),
            "TMPDIR": str(self.folder),
        }

    def is_ready(self) -> bool:
        return get(self.port, "/nothing").status == 404

    def manage(self, *arguments: str) -> None:
        self.run(sys.executable, "manage.py", *arguments)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text)


@pytest.fixture(scope="module")
def site() -> Iterator[NewSite]:
    with NewSite() as site:
        yield site


def without_times(output: str) -> str:
    """Return the output without parts that differ between runs."""
    return re.sub(r"time: [\d.]+ms", "time: ...", output).strip()


def test_all_commands_are_tested() -> None:
    """A new command in the README needs a test in this module."""
    assert sorted(OUTPUTS) == [
        "curl http://127.0.0.1:8000/smoketest/",
        "make test",  # runs this test
        "pip install django-smoketest",  # tested by tox's wheel environment
        "python manage.py smoketest",
    ]


def test_curl__output(site: NewSite) -> None:
    """The endpoint's response is the one in the README, except for times."""
    (command,) = (command for command in OUTPUTS if command.startswith("curl "))
    require("curl")
    called = command.replace("127.0.0.1:8000", site.address).replace("curl", "curl --silent")
    answer = site.run(*shlex.split(called)).stdout
    assert without_times(answer) == without_times(OUTPUTS[command])


def test_command__output(site: NewSite) -> None:
    """The command's output for a failing test is the one in the README, and the exit code is 1."""
    site.write("orders/smoke.py", SMOKE.replace("objects.exists()", "objects.none().exists()"))
    try:
        done = site.run(sys.executable, "manage.py", "smoketest", check=False)
    finally:
        site.write("orders/smoke.py", SMOKE)
    assert done.returncode == 1
    assert without_times(done.stdout) == without_times(OUTPUTS["python manage.py smoketest"])


def test_urls(site: NewSite) -> None:
    """Every path in the README returns 200."""
    paths = set(re.findall(r"`(/smoketest/[^`]*)`", README))
    assert len(paths) >= 5
    for path in paths:
        assert get(site.port, path, NO_CACHE).status == 200, path


class ConfiguredPrometheus(Prometheus):
    """Prometheus with the README's configuration and the address of the test site."""

    def prepare(self) -> None:
        (configuration,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
        (address,) = self.config["scrape_configs"][0]["static_configs"][0]["targets"]
        (self.folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            + configuration.replace("127.0.0.1:8000", address)
        )


def test_prometheus__configuration(site: NewSite) -> None:
    """The README's scrape configuration works unchanged."""
    get(site.port, "/smoketest/", NO_CACHE)
    with ConfiguredPrometheus(site.address) as prometheus:
        prometheus.wait_for('smoketest_last_run_success{job="shop"} == 1')
