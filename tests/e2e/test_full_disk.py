"""A site with several workers whose state directory is on a full disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.mounts import full_disk, small_file_system
from tests.servers.processes import wait_for
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
#: Seconds between runs.
INTERVAL = 6
SETTINGS = """
from shop.settings import *

SMOKETEST_STATE_DIR = "{state}"
SMOKETEST_INTERVAL = {interval}
"""


class Site(ExampleSite):
    """The example with its state directory on a small file system."""

    def prepare(self) -> None:
        settings = SETTINGS.format(state=self.state, interval=INTERVAL)
        (self.folder / "full_disk_settings.py").write_text(settings)
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        path = os.pathsep.join((str(self.folder), variables["PYTHONPATH"]))
        settings = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "full_disk_settings"}
        return variables | settings

    state: Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    state = tmp_path / "state"
    state.mkdir()
    with small_file_system(state, size="4m", inodes=64):
        site = Site(gunicorn(workers=WORKERS))
        site.state = state
        with site:
            yield site


def scrapes(site: Site) -> list[float]:
    """Return `smoketest_results_store_up` of many scrapes, which all workers answer."""
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        answers = pool.map(lambda _: site.metrics(), range(12 * WORKERS))
        return [answer.value("smoketest_results_store_up") for answer in answers]


def age_of_results(site: Site) -> float:
    return time.time() - site.metrics().value("smoketest_last_run_timestamp_seconds")


def wait_until_all_report(site: Site, value: float) -> None:
    wait_for(lambda: set(scrapes(site)), lambda seen: seen == {value}, what=f"only {value}")


def test_full_disk(site: Site) -> None:
    """All workers report that the store is down, and soon after there is room, that it is up."""
    site.wait_until_all_workers_respond(WORKERS)
    wait_for(
        lambda: site.metrics().matching("smoketest_last_run_success"), what="the first full run"
    )
    # Workers can still read a store that has not changed for a second, because they cache it.
    wait_for(lambda: 2 < age_of_results(site) < 4, what="results that each worker caches")
    wait_until_all_report(site, 1)
    with full_disk(site.state):
        # A worker that no scrape has reached yet notices it after three intervals at the latest.
        time.sleep(3 * INTERVAL)
        wait_until_all_report(site, 0)
        for _ in range(5):  # it stays so, although scrapes try to start runs
            assert set(scrapes(site)) == {0}
    wait_until_all_report(site, 1)
    for _ in range(5):
        assert set(scrapes(site)) == {1}
