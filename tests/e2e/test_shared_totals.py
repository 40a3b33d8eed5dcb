"""What one process learns, every process reports, also after a restart."""

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
    """The site under several processes, and one run by a request; scrapes start no others."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.no_background_runs"}
    with ExampleSite(gunicorn(workers=WORKERS), **settings) as site:
        site.wait_until_each_answers(WORKERS)
        site.run_tests()
        yield site


def scrapes(site: ExampleSite) -> list[Exposition]:
    """Many scrapes, each over a fresh connection, so many at once that several workers answer."""
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        return list(pool.map(lambda _: site.metrics(), range(SCRAPES)))


def test_workers__report_the_same(site: ExampleSite) -> None:
    """After one run by one worker, all workers report that run, to the last sample."""
    assert "PROMETHEUS_MULTIPROC_DIR" not in site.environment()
    first, *others = scrapes(site)
    answering = set(re.findall(r"worker <?(\d+)>? answered /smoketest/metrics", site.log))
    assert len(answering) > 1, "one worker answered all scrapes, which shows nothing"
    assert first.value("smoketest_runs_total", result="passed") == 1
    totals = first.by("test", "smoketest_test_runs_total")
    assert len(totals) == first.value("smoketest_tests")
    assert set(totals.values()) == {1}
    for other in others:
        assert other.samples == first.samples


def test_command__adds_to_the_totals_of_the_site(site: ExampleSite) -> None:
    """`manage.py smoketest`, a process of its own, counts where the site's workers count."""
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


def test_restart__keeps_totals_and_times(site: ExampleSite) -> None:
    """A restart of the site resets no counter and forgets no last success."""
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


def test_empty_store__is_made_by_whoever_comes_first(site: ExampleSite) -> None:
    """All workers of a new site, asked at once, can use the store that one of them makes."""
    for number in range(20):
        # Nobody has it open, since all requests are answered: SQLite does not stand a file that
        # is moved under it (https://www.sqlite.org/howtocorrupt.html).
        (site.data_folder / "smoketest").rename(site.data_folder / f"smoketest-{number}")
        up = [exposition.value("smoketest_results_store_up") for exposition in scrapes(site)]
        assert set(up) == {1}
    site.run_tests()
