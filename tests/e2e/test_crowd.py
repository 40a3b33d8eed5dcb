"""Many visitors at once of a suite that takes seconds, on a site with few workers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.servers.client import Response
from tests.servers.processes import wait_for
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
CROWD = 60
SUITE = 2.0
#: far above what the page takes, and less than it would take behind a run
PATIENCE = 1.5
JSON = {"Accept": "application/json"}


@pytest.fixture
def site() -> Iterator[ExampleSite]:
    """A site with four workers of one thread each, whose suite takes two seconds."""
    site = ExampleSite(gunicorn(workers=WORKERS), EXAMPLE_SLEEP=str(SUITE), EXAMPLE_MAX_AGE="1")
    with site:
        # Every worker has loaded the site and its smoke modules before time is taken. To one that
        # loads them later, a result from before is of other code.
        wait_for(
            lambda: workers_that_answer(site, "/smoketest/?test=none.of.this.name"),
            lambda workers: len(workers) == WORKERS,
            within=15,
            what="an answer of each worker",
        )
        yield site


def workers_that_answer(site: ExampleSite, path: str) -> set[str]:
    """Those that have, when many have asked at once."""
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        list(pool.map(lambda _: site.get(path), range(4 * WORKERS)))
    return set(re.findall(r"worker <?(\d+)>? answered", site.log))


def crowd(site: ExampleSite) -> tuple[list[Response], list[float]]:
    """Answers to a crowd that comes at once, and how long another page took meanwhile."""
    gate = threading.Barrier(CROWD + 1)

    def visit(_: int) -> Response:
        gate.wait()
        return site.get("/smoketest/", JSON)

    with ThreadPoolExecutor(CROWD) as pool:
        visits = pool.map(visit, range(CROWD))
        pages = []
        gate.wait()
        until = time.monotonic() + SUITE + 1
        while time.monotonic() < until:
            page = site.get("/")
            assert page.status == 200
            pages.append(page.elapsed)
            time.sleep(0.05)
        return list(visits), pages


def finished_at(answer: Response) -> float:
    """When the run ended that an answer tells of."""
    report = answer.json()
    duration: float = report["time"] / 1000
    return datetime.fromisoformat(report["started_at"]).timestamp() + duration


@pytest.mark.parametrize("stored", [False, True], ids=["nothing stored", "stored and too old"])
def test_crowd__leaves_the_site_alone(site: ExampleSite, stored: bool) -> None:
    """A crowd occupies no worker for long, is told the truth, and causes hardly a run."""
    if stored:
        site.run_tests()
        time.sleep(1.5)  # older than EXAMPLE_MAX_AGE
    runs = sum(site.metrics().matching("smoketest_runs_total").values()) if stored else 0

    answers, pages = crowd(site)

    assert max(pages) < PATIENCE, f"the other page took up to {max(pages):.2f} s"
    assert {answer.status for answer in answers} <= {200, 503}
    assert any(answer.status == 200 for answer in answers)
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) > 0
        else:
            # One second for the way of the answer through a crowd.
            assert answer.received_at - finished_at(answer) <= int(answer.headers["Age"]) + 1
    if stored:
        assert not [answer for answer in answers if answer.status == 503]

    happened = sum(site.metrics().matching("smoketest_runs_total").values()) - runs
    assert 1 <= happened <= 2
