"""Many visitors at once of a suite that takes seconds, on a site with few workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import pytest

from smoketest.services import MAX_WAITERS
from tests.e2e.promises.site import PromiseSite
from tests.servers.client import Response
from tests.servers.processes import wait_for
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
CROWD = 60
#: Seconds that another page may take on a slow machine; the deadline of the run is after 25.
PATIENCE = 20.0
JSON = {"Accept": "application/json"}


@pytest.fixture
def site() -> Iterator[PromiseSite]:
    """A site with four workers of one thread each, all of which have loaded their code.

    To a worker that loads it later, an earlier result is of other code.
    """
    with PromiseSite(gunicorn(workers=WORKERS), EXAMPLE_MAX_AGE="1") as site:
        site.wait_until_each_answers(WORKERS)
        yield site


def crowd(site: PromiseSite) -> list[Response]:
    """The answers to clients that arrive at the same time.

    The run that they cause does not end before another page has been answered, and all clients
    but those that may wait for the run.
    """
    gate = threading.Barrier(CROWD)

    def visit() -> Response:
        gate.wait()
        return site.get("/smoketest/", JSON)

    def pending(visits: list[Future[Response]]) -> int:
        return sum(not visit.done() for visit in visits)

    with ThreadPoolExecutor(CROWD) as pool:
        with site.staying():
            visits = [pool.submit(visit) for _ in range(CROWD)]
            site.wait_until_it_began()
            assert site.get("/", timeout=PATIENCE).status == 200
            wait_for(
                lambda: pending(visits),
                lambda count: count <= 1 + MAX_WAITERS,
                within=PATIENCE,
                what="the answers to all clients that do not wait for the run",
            )
            assert pending(visits), "the run ended by itself"
        return [visit.result() for visit in visits]


def finished_at(answer: Response) -> float:
    """When the run of an answer ended."""
    report = answer.json()
    duration: float = report["time"] / 1000
    return datetime.fromisoformat(report["started_at"]).timestamp() + duration


def assert_age_is_true(answer: Response) -> None:
    """It is of a moment between the request and the answer, rounded up to whole seconds."""
    age = int(answer.headers["Age"])
    age_on_receipt = answer.received_at - finished_at(answer)
    rounding = 0.01  # of the times in the report
    assert age_on_receipt - answer.elapsed - rounding < age < age_on_receipt + 1 + rounding


@pytest.mark.parametrize("stored", [False, True], ids=["nothing stored", "stored and too old"])
def test_crowd__leaves_the_site_alone(site: PromiseSite, stored: bool) -> None:
    """A crowd does not occupy all workers, gets true answers, and causes hardly a run."""
    if stored:
        site.run_tests()
        time.sleep(1.5)  # older than EXAMPLE_MAX_AGE
    runs = sum(site.metrics().matching("smoketest_runs_total").values()) if stored else 0

    answers = crowd(site)

    assert {answer.status for answer in answers} <= {200, 503}
    assert any(answer.status == 200 for answer in answers)
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) > 0
        else:
            assert_age_is_true(answer)
    if stored:
        assert not [answer for answer in answers if answer.status == 503]

    happened = sum(site.metrics().matching("smoketest_runs_total").values()) - runs
    assert 1 <= happened <= 2
