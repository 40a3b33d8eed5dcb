"""Scrapes keep results fresh without a scheduler, and a second Prometheus starts no extra runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.servers.prometheus import Prometheus
from tests.servers.services import require
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
INTERVAL = 4
#: Number of runs to wait for after the first one.
RUNS = 3
#: all counters of the package
COUNTERS = '{__name__=~"smoketest_.+_total"}'


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    """Start a site with several workers, whose tests run only because of scrapes."""
    with ExampleSite(gunicorn(workers=WORKERS), EXAMPLE_INTERVAL=str(INTERVAL)) as site:
        site.wait_until_all_workers_respond(WORKERS)
        yield site


@pytest.fixture(scope="module")
def observed(site: ExampleSite) -> Iterator[Sequence[Prometheus]]:
    """Scrape the site every second with two Prometheus servers for several runs."""
    with Prometheus(site.address) as first, Prometheus(site.address) as second:
        for prometheus in (first, second):
            prometheus.wait_for(f"sum(smoketest_runs_total) >= {1 + RUNS}")
        yield first, second


def points(prometheus: Prometheus, expression: str) -> list[list[tuple[float, float]]]:
    """Return all scraped samples of each series, with their times."""
    result = prometheus.api("query", query=f"{expression}[10m]")["result"]
    return [[(at, float(value)) for at, value in series["values"]] for series in result]


def test_runs__one_per_interval(observed: Sequence[Prometheus]) -> None:
    """Runs start one interval apart with any number of servers, and both servers see every run."""
    for prometheus in observed:
        (finished,) = points(prometheus, "smoketest_last_run_timestamp_seconds")
        (durations,) = points(prometheus, "smoketest_last_run_duration_seconds")
        started_at = sorted(
            {end - took for (_, end), (_, took) in zip(finished, durations, strict=True)}
        )
        assert len(started_at) >= RUNS
        # If each scrape or server started its own runs, they would be about a second apart.
        assert min(later - earlier for earlier, later in pairwise(started_at)) > INTERVAL / 2
        assert not prometheus.query('smoketest_runs_total{result!="passed"} > 0')


def test_results__never_stale(observed: Sequence[Prometheus]) -> None:
    """No scrape sees a stale result."""
    for prometheus in observed:
        (series,) = points(prometheus, "smoketest_last_run_timestamp_seconds")
        assert max(at - finished for at, finished in series) < 3 * INTERVAL


def test_counters__never_decrease(observed: Sequence[Prometheus]) -> None:
    """Totals never decrease between scrapes, whichever worker responds."""
    for prometheus in observed:
        counters = points(prometheus, COUNTERS)
        assert len(counters) > 10
        for series in counters:
            values = [value for _, value in series]
            assert values == sorted(values)
        resets = prometheus.query(f"resets({COUNTERS}[10m])")
        assert len(resets) == len(counters)
        assert {sample.value for sample in resets} == {0}


def test_series__no_gaps(observed: Sequence[Prometheus]) -> None:
    """No scrape lacks a series, even during a run, whichever worker responds.

    On a slow machine a scrape may exceed its timeout; it then has no samples at all.
    """
    for prometheus in observed:
        (up,) = points(prometheus, "up")
        scrapes = [at for at, value in up if value == 1]
        assert len(scrapes) > RUNS
        (store_up,) = points(prometheus, "smoketest_results_store_up")
        assert store_up == [(at, 1) for at in scrapes]
        (success,) = points(prometheus, "smoketest_last_run_success")
        first_run = next(at for at, _ in success)
        assert success == [(at, 1) for at in scrapes if at >= first_run]


def test_requests__only_scrapes(site: ExampleSite, observed: Sequence[Prometheus]) -> None:
    """All requests were scrapes, and several workers served them."""
    paths = re.findall(r"worker <?(\d+)>? answered (\S+) with (\d+)", site.log)
    # The 404 is the request of the fixture.
    assert {(path, status) for _, path, status in paths if path == "/smoketest/"} == {
        ("/smoketest/", "404")
    }
    assert {path for _, path, _ in paths} == {"/", "/smoketest/", "/smoketest/metrics"}
    scrapes = [(worker, status) for worker, path, status in paths if "metrics" in path]
    assert len(scrapes) > len(observed) * RUNS
    assert {status for _, status in scrapes} == {"200"}
    assert len({worker for worker, _ in scrapes}) > 1, "one worker served all scrapes"


@pytest.mark.usefixtures("observed")
def test_curl__compressed_page(site: ExampleSite) -> None:
    """curl can decompress the page, which is a single gzip member, up to `# EOF`."""
    command = [
        require("curl"), "--silent", "--show-error", "--fail", "--noproxy", "*",
        "--header", "Accept: application/openmetrics-text", "--dump-header", "/dev/stderr",
    ]  # fmt: skip
    url = f"http://{site.address}/smoketest/metrics"

    def curl(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options, url], capture_output=True, text=True, check=True)

    done = curl("--compressed")
    assert "content-encoding: gzip" in done.stderr.lower()
    assert done.stdout.endswith("\n# EOF\n")
    assert {"smoketest_runs", "smoketest_test_success", "smoketest_build_info"} <= names(
        done.stdout
    )

    plain = curl()
    assert "content-encoding" not in plain.stderr.lower()
    assert names(plain.stdout) == names(done.stdout)


def names(exposition: str) -> set[str]:
    """Return the metric families of an OpenMetrics page, read by a strict parser."""
    families = text_string_to_metric_families(exposition)  # type: ignore[no-untyped-call]
    return {family.name for family in families}
