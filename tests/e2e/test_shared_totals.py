"""All processes report the same totals, including after a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.exposition import Exposition
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
SCRAPES = 40


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    """Start a site with several workers, and run its tests once. Scrapes start no runs."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.no_background_runs"}
    with ExampleSite(gunicorn(workers=WORKERS), **settings) as site:
        site.wait_until_all_workers_respond(WORKERS)
        site.run_tests()
        yield site


def scrapes(site: ExampleSite) -> list[Exposition]:
    """Scrape over many connections at once, so that several workers respond."""
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        return list(pool.map(lambda _: site.metrics(), range(SCRAPES)))


def test_workers__same_samples(site: ExampleSite) -> None:
    """All workers report the same samples after a run by one of them."""
    assert "PROMETHEUS_MULTIPROC_DIR" not in site.environment()
    first, *others = scrapes(site)
    answering = set(re.findall(r"worker <?(\d+)>? answered /smoketest/metrics", site.log))
    assert len(answering) > 1, "one worker served all scrapes"
    assert first.value("smoketest_runs_total", result="passed") == 1
    totals = first.by("test", "smoketest_test_runs_total")
    assert len(totals) == first.value("smoketest_tests")
    assert set(totals.values()) == {1}
    for other in others:
        assert other.samples == first.samples


def test_command__added_to_totals(site: ExampleSite) -> None:
    """A run of `manage.py smoketest` is added to the totals of the site."""
    before = site.metrics()
    site.manage("smoketest")
    after = scrapes(site)
    expected = {
        test: total + 1 for test, total in before.by("test", "smoketest_test_runs_total").items()
    }
    runs = before.value("smoketest_runs_total", result="passed")
    for exposition in after:
        assert exposition.by("test", "smoketest_test_runs_total") == expected
        assert exposition.value("smoketest_runs_total", result="passed") == runs + 1


def test_restart__keeps_totals(site: ExampleSite) -> None:
    """A restart resets no counter and no timestamp."""
    before = site.metrics()
    old_workers = site.workers()
    site.restart()
    assert not set(old_workers) & set(site.wait_for_workers(WORKERS))
    after = site.metrics()
    assert after.totals() == before.totals()
    for name in (
        "smoketest_last_success_timestamp_seconds",
        "smoketest_test_last_success_timestamp_seconds",
    ):
        assert before.matching(name)
        assert after.matching(name) == before.matching(name)


def test_new_store__concurrent_creation(site: ExampleSite) -> None:
    """Workers that access a new store at the same time can all use it."""
    for number in range(20):
        # All requests have been served, so the file is not in use: SQLite does not support moving
        # an open database (https://www.sqlite.org/howtocorrupt.html).
        (site.data_folder / "smoketest").rename(site.data_folder / f"smoketest-{number}")
        up = [exposition.value("smoketest_results_store_up") for exposition in scrapes(site)]
        assert set(up) == {1}
    site.run_tests()
