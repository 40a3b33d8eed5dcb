"""Samples in a real Prometheus server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.servers.prometheus import Prometheus, check_metrics
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

#: Time before the first run.
BEGAN_AT = time.time()
#: Test that fails if the cache of the example is broken.
VICTIM = "shop.smoke.CacheTest.test_cache_keeps_a_value"


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    """Start a site with two processes and run its tests once."""
    with ExampleSite(gunicorn(workers=2)) as site:
        site.run_tests()
        yield site


@pytest.fixture(scope="module")
def prometheus(site: ExampleSite) -> Iterator[Prometheus]:
    """Start a Prometheus server that scrapes the site every second."""
    with Prometheus(site.address) as prometheus:
        yield prometheus


def test_run__is_in_prometheus(prometheus: Prometheus) -> None:
    """The result of the run, the duration of each test and the last success can be queried."""
    assert prometheus.wait_for("smoketest_last_run_success")[0].value == 1

    durations = prometheus.wait_for("smoketest_test_last_run_duration_seconds")
    tests = {sample.labels["test"] for sample in durations}
    assert len(tests) == prometheus.query("smoketest_tests")[0].value
    assert VICTIM in tests
    assert all(0 <= sample.value < 10 for sample in durations)

    (success,) = prometheus.query("smoketest_last_success_timestamp_seconds")
    assert BEGAN_AT < success.value <= time.time()

    (target,) = prometheus.targets()
    assert (target["health"], target["lastError"]) == ("up", "")


def test_failure__shows_in_its_own_series(site: ExampleSite, prometheus: Prometheus) -> None:
    """Only the series of the failing test becomes 0, and 1 again once the test passes."""
    prometheus.wait_for("smoketest_last_run_success == 1")
    site.break_("cache")
    try:
        assert site.run_tests()["status"] == "FAIL"
        failing = prometheus.wait_for("smoketest_test_success == 0")
        assert [sample.labels["test"] for sample in failing] == [VICTIM]
        assert failing[0].labels["severity"] == "critical"
        assert prometheus.query("smoketest_last_run_success")[0].value == 0
        streak = f'smoketest_test_consecutive_failures{{test="{VICTIM}"}}'
        assert prometheus.query(streak)[0].value == 1
    finally:
        site.repair()
    assert site.run_tests()["status"] == "PASS"
    prometheus.wait_for("smoketest_test_success == 0", lambda failing: not failing)
    prometheus.wait_for(f'smoketest_test_success{{test="{VICTIM}"}} == 1')
    assert prometheus.query("smoketest_last_run_success")[0].value == 1


def test_exposition__is_clean(site: ExampleSite) -> None:
    """Promtool accepts the text format, and a strict parser reads the OpenMetrics format."""
    site.run_tests()
    done = check_metrics(site.metrics().text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    answer = site.get("/smoketest/metrics", {"Accept": "application/openmetrics-text"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"smoketest_runs", "smoketest_test_success"} <= names
