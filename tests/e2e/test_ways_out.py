"""One suite, seen by every way that the metrics leave a host: the same series, the same values.

What the ways add: a Pushgateway the labels of the push and its own series, `push_*` among them,
node_exporter its `node_*` and `promhttp_*` series, django-prometheus its `django_*`, `python_*` and
`process_*` series. The live series (interval, abandoned, paused, store up, build) are computed at
each scrape, by the process that is scraped; here nothing changes them meanwhile and all run the
same code, so that they have to agree as well. Those of a push and of a text file stay as they were
when it was written.
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

#: The example's settings, and django-prometheus's page where that is installed.
SETTINGS = """
from shop.settings import *

SMOKETEST_RUN_ON_SCRAPE = False  # no run but those of the test
if {has_django_prometheus}:
    INSTALLED_APPS = ["django_prometheus", *INSTALLED_APPS]
    SMOKETEST_DJANGO_PROMETHEUS = True
ROOT_URLCONF = "ways_out_urls"
"""
URLS = """
from django.conf import settings
from django.urls import include, path

urlpatterns = [path("", include("shop.urls"))]
if "django_prometheus" in settings.INSTALLED_APPS:
    urlpatterns.append(path("", include("django_prometheus.urls")))
"""
LABELS = {"job": "shop", "instance": "web-1"}


class Site(ExampleSite):
    """The example with settings of its own."""

    def prepare(self) -> None:
        settings = SETTINGS.format(has_django_prometheus=has_django_prometheus())
        (self.folder / "ways_out_settings.py").write_text(settings)
        (self.folder / "ways_out_urls.py").write_text(URLS)
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        path = os.pathsep.join((str(self.folder), variables["PYTHONPATH"]))
        settings = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "ways_out_settings"}
        return variables | settings


def has_django_prometheus() -> bool:
    return find_spec("django_prometheus") is not None


@dataclass
class Host:
    """All that runs on it."""

    site: Site
    node_exporter: NodeExporter
    pushgateway: Pushgateway
    exporter_port: int

    def publish(self) -> None:
        """Run all tests once, and hand the results to the two ways that need that."""
        done = self.site.manage(
            "smoketest", "--textfile", str(self.node_exporter.text_folder / "smoketest.prom"),
            "--pushgateway", self.pushgateway.url, "--job", LABELS["job"],
            "--grouping", f"instance={LABELS['instance']}", check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr

    def by_site(self) -> Exposition:
        return self.site.metrics()

    def by_django_prometheus(self) -> Exposition:
        require_django_prometheus()
        response = self.site.get("/metrics", {"Accept": "text/plain"})
        assert response.status == 200, response.text
        return Exposition(response.text)

    def by_exporter(self) -> Exposition:
        response = get(self.exporter_port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, response.text
        return Exposition(response.text)

    def by_text_file(self) -> Exposition:
        return self.node_exporter.metrics()

    def by_push(self) -> Exposition:
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
    """A host with everything on it, after a first run by the stand-alone exporter."""
    with Site(gunicorn(workers=2)) as site, NodeExporter() as node, Pushgateway() as gateway:
        port = free_port()
        exporter = site.spawn(
            sys.executable, "manage.py", "smoketest", "--every", "1h",
            "--serve", f"127.0.0.1:{port}",
        )  # fmt: skip
        try:

            def look() -> bool:
                assert exporter.poll() is None, exporter.communicate()
                try:
                    return "smoketest_runs_total{" in get(port, "/metrics").text
                except OSError:
                    return False

            wait_for(look, what="the exporter's first run")
            yield Host(site, node, gateway, port)
        finally:
            stop(exporter)


def ours(exposition: Exposition, *, added: dict[str, str] | None = None) -> dict[Series, float]:
    """Our series without the labels that were added; an empty label is none to Prometheus."""
    strange = set((added or {}).items())
    series = {}
    for (name, labels), value in exposition.samples.items():
        if name.startswith("smoketest_"):
            assert strange <= labels, f"{name}{dict(labels)} lacks {added}"
            kept = frozenset((key, value) for key, value in labels - strange if value)
            series[name, kept] = value
    return series


WAYS: dict[str, tuple[Callable[[Host], Exposition], dict[str, str]]] = {
    "django-prometheus": (Host.by_django_prometheus, {}),
    "exporter": (Host.by_exporter, {}),
    "node_exporter": (Host.by_text_file, {}),
    "pushgateway": (Host.by_push, LABELS),
}


@pytest.mark.parametrize("is_broken", [False, True], ids=["passing", "failing"])
@pytest.mark.parametrize("way", WAYS)
def test_ways_out__agree(host: Host, way: str, is_broken: bool) -> None:
    """After a run that passes, and one that fails, each way has the series of the site's page."""
    if is_broken:
        host.site.break_("cache", "warning")
    try:
        host.publish()
        page = host.by_site()
    finally:
        host.site.mend()
    assert page.value("smoketest_last_run_success") == (not is_broken)
    assert len(ours(page)) > 100
    scrape, added = WAYS[way]
    assert ours(scrape(host), added=added) == ours(page)
    assert ours(host.by_site()) == ours(page), "a scrape has changed something"


def test_ways_out__add_their_own(host: Host) -> None:
    """What else is on each page is the other program's."""
    host.publish()

    def others(exposition: Exposition) -> set[str]:
        names = {name.partition("_")[0] for name, _ in exposition.samples}
        return names - {"smoketest"}

    assert others(host.by_site()) == set()
    assert others(host.by_exporter()) == set()
    assert others(host.by_text_file()) <= {"node", "promhttp"}
    assert host.by_text_file().value("node_textfile_scrape_error") == 0
    push = host.by_push()
    assert push.value("push_failure_time_seconds", **LABELS) == 0
    if has_django_prometheus():
        assert others(host.by_django_prometheus()) <= {"django", "python", "process"}


def test_ways_out__are_servers_of_their_own(host: Host) -> None:
    """The comparison is between programs, not of one with itself."""
    servers: list[Server] = [host.site, host.node_exporter, host.pushgateway]
    ports = {server.port for server in servers} | {host.exporter_port}
    assert len(ports) == 4
