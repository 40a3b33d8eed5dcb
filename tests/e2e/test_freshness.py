"""Results stay fresh by scrapes alone: no scheduler, and no run for a second Prometheus."""

from __future__ import annotations

import re
import subprocess
import time
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
INTERVALS = 4
#: every counter of the package
COUNTERS = '{__name__=~"smoketest_.+_total"}'


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    """A site of several processes that nobody asks to run its tests."""
    with ExampleSite(gunicorn(workers=WORKERS), EXAMPLE_INTERVAL=str(INTERVAL)) as site:
        site.wait_for_workers(WORKERS)
        yield site


@pytest.fixture(scope="module")
def observed(site: ExampleSite) -> Iterator[Sequence[Prometheus]]:
    """Two Prometheus servers that have scraped the site every second for some intervals."""
    with Prometheus(site.address) as first, Prometheus(site.address) as second:
        for prometheus in (first, second):
            prometheus.wait_for("sum(smoketest_runs_total) >= 1")
        time.sleep(INTERVALS * INTERVAL + 0.5)
        yield first, second


def points(prometheus: Prometheus, expression: str) -> list[list[tuple[float, float]]]:
    """The scraped samples of each series, with their times, over the last intervals."""
    result = prometheus.api("query", query=f"{expression}[{INTERVALS * INTERVAL}s]")["result"]
    return [[(at, float(value)) for at, value in series["values"]] for series in result]


def test_runs__one_an_interval(observed: Sequence[Prometheus]) -> None:
    """The total of runs grows by one an interval, however many scrape; both servers see so."""
    for prometheus in observed:
        totals: dict[float, float] = {}
        for series in points(prometheus, "smoketest_runs_total"):
            for at, value in series:
                totals[at] = totals.get(at, 0) + value
        grown = totals[max(totals)] - totals[min(totals)]
        assert abs(grown - INTERVALS) <= 1
        assert not prometheus.query('smoketest_runs_total{result!="passed"} > 0')


def test_results__are_never_stale(observed: Sequence[Prometheus]) -> None:
    """At each scrape the latest run is no older than an interval and a scrape."""
    for prometheus in observed:
        (series,) = points(prometheus, "smoketest_last_run_timestamp_seconds")
        assert max(at - finished for at, finished in series) < INTERVAL + 1.5


def test_counters__never_go_back(observed: Sequence[Prometheus]) -> None:
    """Whichever worker answers, no total is smaller than at the scrape before."""
    for prometheus in observed:
        counters = points(prometheus, COUNTERS)
        assert len(counters) > 10
        for series in counters:
            values = [value for _, value in series]
            assert values == sorted(values)
        resets = prometheus.query(f"resets({COUNTERS}[1m])")
        assert len(resets) == len(counters)
        assert {sample.value for sample in resets} == {0}


def test_up__has_no_gap(observed: Sequence[Prometheus]) -> None:
    """Every scrape is answered, in time, while workers run the tests; no series vanishes."""
    for prometheus in observed:
        (up,) = points(prometheus, "up")
        assert {value for _, value in up} == {1}
        moments = [at for at, _ in up]
        assert len(moments) >= INTERVALS * INTERVAL - 1
        assert max(later - earlier for earlier, later in pairwise(moments)) < 1.5
        for expression in ("smoketest_last_run_success", "smoketest_results_store_up"):
            (series,) = points(prometheus, expression)
            assert [at for at, _ in series] == moments
            assert {value for _, value in series} == {1}


def test_requests__scrapes_alone(site: ExampleSite, observed: Sequence[Prometheus]) -> None:
    """Nobody asked the site to run its tests, and several workers answered the scrapes."""
    paths = re.findall(r"worker <?(\d+)>? answered (\S+) with (\d+)", site.log)
    assert {path for _, path, _ in paths} <= {"/", "/smoketest/metrics"}
    scrapes = [(worker, status) for worker, path, status in paths if "metrics" in path]
    assert len(scrapes) >= len(observed) * INTERVALS * INTERVAL
    assert {status for _, status in scrapes} == {"200"}
    assert len({worker for worker, _ in scrapes}) > 1, "one worker answered all scrapes"


@pytest.mark.usefixtures("observed")
def test_curl__reads_the_whole_page(site: ExampleSite) -> None:
    """A compressed page is one gzip member: curl reads it to the end of OpenMetrics."""
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
    """The families of an OpenMetrics page, as a strict parser reads it."""
    families = text_string_to_metric_families(exposition)  # type: ignore[no-untyped-call]
    return {family.name for family in families}
