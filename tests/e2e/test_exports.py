"""Every export of the metrics has the same series and values as the metrics page of the site.

Exports may add series and labels: Pushgateway adds the grouping labels and its own series such as
`push_*`, node_exporter adds `node_*` and `promhttp_*`, and django-prometheus adds `django_*`,
`python_*` and `process_*`. Each scrape computes the live series (interval, abandoned, paused,
store up, build) anew; here they do not change between scrapes, so they must agree too. A push and
a text file keep their values from the time of writing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from tests.exporters.test_django_prometheus import require_django_prometheus
from tests.servers.client import get
from tests.servers.exposition import Exposition, Series
from tests.servers.node_exporter import NodeExporter
from tests.servers.processes import Server, free_port, wait_for
from tests.servers.pushgateway import Pushgateway
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

#: Settings of the example, with the django-prometheus page if it is installed.
SETTINGS = """
from shop.settings import *

SMOKETEST_RUN_ON_SCRAPE = False  # no run but those of the test
SMOKETEST_PROJECT = "{project}"
if {has_django_prometheus}:
    INSTALLED_APPS = ["django_prometheus", *INSTALLED_APPS]
    SMOKETEST_DJANGO_PROMETHEUS = True
ROOT_URLCONF = "exports_urls"
"""
URLS = """
from django.conf import settings
from django.urls import include, path

urlpatterns = [path("", include("shop.urls"))]
if "django_prometheus" in settings.INSTALLED_APPS:
    urlpatterns.append(path("", include("django_prometheus.urls")))
"""
PROJECT = "shop.example.com"
LABELS = {"job": "shop", "instance": "web-1"}


class Site(ExampleSite):
    """Example site with its own settings."""

    def prepare(self) -> None:
        settings = SETTINGS.format(has_django_prometheus=has_django_prometheus(), project=PROJECT)
        (self.folder / "exports_settings.py").write_text(settings)
        (self.folder / "exports_urls.py").write_text(URLS)
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        path = os.pathsep.join((str(self.folder), variables["PYTHONPATH"]))
        settings = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "exports_settings"}
        return variables | settings


def has_django_prometheus() -> bool:
    return find_spec("django_prometheus") is not None


@dataclass
class Host:
    """Host with a site and all exporters."""

    site: Site
    node_exporter: NodeExporter
    pushgateway: Pushgateway
    exporter_port: int

    def publish(self) -> None:
        """Run all tests once, write the text file and push the metrics."""
        done = self.site.manage(
            "smoketest", "--textfile", str(self.node_exporter.text_folder / "smoketest.prom"),
            "--pushgateway", self.pushgateway.url, "--job", LABELS["job"],
            "--grouping", f"instance={LABELS['instance']}", check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr

    def from_site(self) -> Exposition:
        return self.site.metrics()

    def from_django_prometheus(self) -> Exposition:
        require_django_prometheus()
        response = self.site.get("/metrics", {"Accept": "text/plain"})
        assert response.status == 200, response.text
        return Exposition(response.text)

    def from_exporter(self) -> Exposition:
        response = get(self.exporter_port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, response.text
        return Exposition(response.text)

    def from_text_file(self) -> Exposition:
        return self.node_exporter.metrics()

    def from_pushgateway(self) -> Exposition:
        return self.pushgateway.metrics()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Start a host with all exporters, after a first run by the stand-alone exporter."""
    with Site(gunicorn(workers=2)) as site, NodeExporter() as node, Pushgateway() as gateway:
        port = free_port()
        exporter = site.spawn(
            sys.executable, "manage.py", "smoketest", "--every", "1h",
            "--serve", f"127.0.0.1:{port}",
        )  # fmt: skip
        try:

            def has_run() -> bool:
                assert exporter.poll() is None, exporter.communicate()
                try:
                    return "smoketest_runs_total{" in get(port, "/metrics").text
                except OSError:
                    return False

            wait_for(has_run, what="the exporter's first run")
            yield Host(site, node, gateway, port)
        finally:
            stop(exporter)


def smoketest_series(
    exposition: Exposition, *, added: dict[str, str] | None = None
) -> dict[Series, float]:
    """Return the series of this package without the labels in `added`.

    Labels with empty values are dropped, as Prometheus does.
    """
    added_labels = set((added or {}).items())
    series = {}
    for (name, labels), value in exposition.samples.items():
        if name.startswith("smoketest_"):
            assert added_labels <= labels, f"{name}{dict(labels)} lacks {added}"
            kept = frozenset((key, value) for key, value in labels - added_labels if value)
            series[name, kept] = value
    return series


EXPORTS: dict[str, tuple[Callable[[Host], Exposition], dict[str, str]]] = {
    "django-prometheus": (Host.from_django_prometheus, {}),
    "exporter": (Host.from_exporter, {}),
    "node_exporter": (Host.from_text_file, {}),
    "pushgateway": (Host.from_pushgateway, LABELS),
}


@pytest.mark.parametrize("is_broken", [False, True], ids=["passing", "failing"])
@pytest.mark.parametrize("export", EXPORTS)
def test_exports__agree(host: Host, export: str, is_broken: bool) -> None:
    """After a passing and a failing run, each export has the series of the metrics page."""
    if is_broken:
        host.site.break_("cache", "warning")
    try:
        host.publish()
        page = host.from_site()
    finally:
        host.site.repair()
    assert page.value("smoketest_last_run_success") == (not is_broken)
    assert len(smoketest_series(page)) > 100
    scrape, added = EXPORTS[export]
    assert smoketest_series(scrape(host), added=added) == smoketest_series(page)
    assert all(("django_project", PROJECT) in labels for _, labels in smoketest_series(page))
    assert smoketest_series(host.from_site()) == smoketest_series(page), (
        "a scrape changed the series"
    )


def test_exports__additional_series(host: Host) -> None:
    """Additional series are those of the exporters."""
    host.publish()

    def prefixes(exposition: Exposition) -> set[str]:
        names = {name.partition("_")[0] for name, _ in exposition.samples}
        return names - {"smoketest"}

    assert prefixes(host.from_site()) == set()
    assert prefixes(host.from_exporter()) == set()
    assert prefixes(host.from_text_file()) <= {"node", "promhttp"}
    assert host.from_text_file().value("node_textfile_scrape_error") == 0
    push = host.from_pushgateway()
    assert push.value("push_failure_time_seconds", **LABELS) == 0
    if has_django_prometheus():
        assert prefixes(host.from_django_prometheus()) <= {"django", "python", "process"}


def test_exports__distinct_servers(host: Host) -> None:
    """Each export comes from a different server."""
    servers: list[Server] = [host.site, host.node_exporter, host.pushgateway]
    ports = {server.port for server in servers} | {host.exporter_port}
    assert len(ports) == 4
