"""Many simultaneous requests while a slow suite runs, on a site with few workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import pytest

from smoketest.services import MAX_WAITERS
from tests.e2e.misbehaving.site import MisbehavingSite
from tests.servers.client import Response
from tests.servers.processes import wait_for
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 4
CLIENTS = 60
#: Maximum response time of another page in seconds. The deadline of the run is 25 s.
MAX_RESPONSE_TIME = 20.0
JSON = {"Accept": "application/json"}


@pytest.fixture
def site() -> Iterator[MisbehavingSite]:
    """Start a site with four single-threaded workers that have all loaded their code.

    A worker that loads its code later treats earlier results as those of another release.
    """
    with MisbehavingSite(gunicorn(workers=WORKERS), EXAMPLE_MAX_AGE="1") as site:
        site.wait_until_all_workers_respond(WORKERS)
        yield site


def concurrent_responses(site: MisbehavingSite) -> list[Response]:
    """Return the responses to simultaneous requests.

    The run stays in progress until another page and all requests except those that may wait for
    the run have been served.
    """
    barrier = threading.Barrier(CLIENTS)

    def request() -> Response:
        barrier.wait()
        return site.get("/smoketest/", JSON)

    def pending(requests: list[Future[Response]]) -> int:
        return sum(not request.done() for request in requests)

    with ThreadPoolExecutor(CLIENTS) as pool:
        with site.blocking():
            requests = [pool.submit(request) for _ in range(CLIENTS)]
            site.wait_until_started()
            assert site.get("/", timeout=MAX_RESPONSE_TIME).status == 200
            wait_for(
                lambda: pending(requests),
                lambda count: count <= 1 + MAX_WAITERS,
                within=MAX_RESPONSE_TIME,
                what="the responses to all clients that do not wait for the run",
            )
            assert pending(requests), "the run ended before its tests were released"
        return [request.result() for request in requests]


def finished_at(response: Response) -> float:
    """Return the time at which the run of a response ended."""
    report = response.json()
    duration: float = report["time"] / 1000
    return datetime.fromisoformat(report["started_at"]).timestamp() + duration


def assert_age_is_correct(response: Response) -> None:
    """Check that `Age` matches the time between the run and the response, rounded up to seconds."""
    age = int(response.headers["Age"])
    age_on_receipt = response.received_at - finished_at(response)
    rounding = 0.01  # of the times in the report
    assert age_on_receipt - response.elapsed - rounding < age < age_on_receipt + 1 + rounding


@pytest.mark.parametrize("stored", [False, True], ids=["no stored result", "stale result"])
def test_concurrent_requests__leave_workers_free(site: MisbehavingSite, stored: bool) -> None:
    """Simultaneous requests leave workers free, get correct ages, and start at most two runs."""
    if stored:
        site.run_tests()
        time.sleep(1.5)  # older than EXAMPLE_MAX_AGE
    runs = sum(site.metrics().matching("smoketest_runs_total").values()) if stored else 0

    responses = concurrent_responses(site)

    assert {response.status for response in responses} <= {200, 503}
    assert any(response.status == 200 for response in responses)
    for response in responses:
        if response.status == 503:
            assert int(response.headers["Retry-After"]) > 0
        else:
            assert_age_is_correct(response)
    if stored:
        assert not [response for response in responses if response.status == 503]

    new_runs = sum(site.metrics().matching("smoketest_runs_total").values()) - runs
    assert 1 <= new_runs <= 2
