"""SIGKILL at any time costs at most the run in progress."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import Any

import pytest

from tests.e2e.misbehaving.site import MisbehavingSite, background_requests
from tests.servers.exposition import Exposition, Series
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 2

#: Record the latest report in a loop, without Django so that it starts quickly.
RECORD_IN_LOOP = """
import sys
from smoketest.results import Selection
from smoketest.store.directory import open_state_folder
from smoketest.store import SharedStore

store = SharedStore(open_state_folder(sys.argv[1], {}, ()))
report = store.latest_report(Selection(), failfast=False)
for _ in range(3):
    store.record(report)
print("recording", flush=True)
while True:
    store.record(report)
"""


@pytest.fixture(scope="module")
def site() -> Iterator[MisbehavingSite]:
    """Start a site whose runs can be kept in progress."""
    with MisbehavingSite(gunicorn(workers=WORKERS), EXAMPLE_INTERVAL="3600") as site:
        site.wait_for_workers(WORKERS)
        site.run_tests()
        yield site


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Return a thread for a request that is in progress during the kill."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def got_response(request: Future[Any]) -> bool:
    """Return whether the request got a response rather than a broken connection."""
    try:
        request.result()
    except (OSError, http.client.HTTPException):
        return False
    return True


def whole_runs(before: Mapping[Series, float], after: Mapping[Series, float]) -> float:
    """Return the number of new passing runs, checking that run and test totals agree."""
    increase: dict[str, float] = {}
    for (name, labels), total in after.items():
        source = f"{name} {dict(labels).get('test', '')}"
        increase[source] = increase.get(source, 0) + total - before[name, labels]
    assert len(set(increase.values())) == 1, f"run and test totals differ: {increase}"
    return next(iter(increase.values()))


def aborted_runs(site: MisbehavingSite) -> float:
    """Return the number of runs recorded as aborted."""
    return site.metrics().value("smoketest_runs_total", result="aborted")


def kill_workers(site: MisbehavingSite) -> None:
    """Kill all workers at once and wait for new ones."""
    workers = site.workers()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        site.workers,
        lambda found: len(found) == WORKERS and not set(found) & set(workers),
        what="new workers",
    )


def assert_intact(site: MisbehavingSite, totals: Mapping[Series, float]) -> Exposition:
    """Check that the store is readable and no total has decreased."""
    exposition = site.metrics()
    assert exposition.value("smoketest_results_store_up") == 1
    for series, total in totals.items():
        assert exposition.samples[series] >= total, series
    return exposition


def assert_next_run_is_normal(site: MisbehavingSite) -> Exposition:
    """Check that the next run gets the lock, sees no abandoned test and is counted once."""
    before = site.metrics()
    report = site.run_tests()  # 503 if the lock were still held
    assert report["status"] == "PASS"
    assert report["tests_timed_out"] == 0
    assert report["tests_not_run"] == 0
    after = site.metrics()
    assert after.value("smoketest_abandoned_tests") == 0
    assert after.by("test", "smoketest_test_runs_total") == {
        test: total + 1 for test, total in before.by("test", "smoketest_test_runs_total").items()
    }
    return after


@pytest.mark.parametrize("reached", ["start", "running", "test"])
def test_kill__during_a_run(site: MisbehavingSite, reached: str) -> None:
    """A killed run is not counted and does not delay the next one."""
    totals = site.metrics().totals()
    with (
        site.blocking(),
        closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)) as connection,
    ):
        headers = {"Cache-Control": "no-cache"}
        connection.request("GET", "/smoketest/?format=ndjson", headers=headers)
        events = connection.getresponse()
        while json.loads(events.readline())["event"] != reached:
            pass
        kill_workers(site)
        assert b'"report"' not in rest_of(events), "the run ended before the workers were killed"
    assert assert_intact(site, totals).totals() == totals
    assert_next_run_is_normal(site)


def rest_of(stream: http.client.HTTPResponse) -> bytes:
    """Return the rest of a stream, up to its end or an error."""
    try:
        return stream.read()
    except http.client.IncompleteRead as error:
        return error.partial
    except OSError:
        return b""


def test_kill__at_the_end_of_a_run(site: MisbehavingSite, background: ThreadPoolExecutor) -> None:
    """A run that is killed near its end is counted either fully or not at all."""
    for late in (0.0, 0.01, 0.02, 0.04):
        totals = site.metrics().totals()
        with site.blocking():
            request = background.submit(site.run_tests)
            site.wait_until_started()
        time.sleep(late)
        kill_workers(site)
        got_response(request)
        counted = whole_runs(totals, assert_intact(site, totals).totals())
        assert counted in (0, 1)
        assert_next_run_is_normal(site)


def test_kill__during_store_writes(site: MisbehavingSite) -> None:
    """Processes killed at random while they record runs never leave a partly counted run."""
    recorded = 0.0
    for attempt in range(20):
        totals = site.metrics().totals()
        state = str(site.data_folder / "smoketest")
        with site.spawn(sys.executable, "-c", RECORD_IN_LOOP, state) as recorder:
            assert recorder.stdout is not None
            assert recorder.stdout.readline() == b"recording\n"
            time.sleep(0.05 + attempt * 0.0013)
            recorder.kill()
        recorded += whole_runs(totals, assert_intact(site, totals).totals())
    assert recorded > 20, "too few runs were recorded to be interrupted"
    assert_next_run_is_normal(site)


def test_kill__command(site: MisbehavingSite) -> None:
    """A killed `manage.py smoketest` blocks neither the site nor the next command."""
    totals = site.metrics().totals()
    with site.blocking(), site.spawn(sys.executable, "manage.py", "smoketest") as command:
        site.wait_until_started()
        command.kill()
    assert assert_intact(site, totals).totals() == totals
    assert_next_run_is_normal(site)
    site.manage("smoketest")


def test_kill__hanging_test(site: MisbehavingSite) -> None:
    """All processes report a hanging test until its process is gone."""
    site.break_("hang")
    try:
        assert site.run_tests()["tests_timed_out"] == 1
        assert site.metrics().value("smoketest_abandoned_tests") == 1
    finally:
        site.repair()
    assert "still running since" in site.manage("smoketest", check=False).stdout
    kill_workers(site)
    assert site.metrics().value("smoketest_abandoned_tests") == 0
    assert_next_run_is_normal(site)


@pytest.mark.parametrize("make_database", [None, PostgreSQL], ids=["sqlite", "postgresql"])
def test_kill__uncommitted_rows(
    make_database: type[PostgreSQL] | None,
) -> None:
    """Uncommitted rows are rolled back, and the next run records the killed one as aborted."""
    with (
        make_database() if make_database else nullcontext() as database,
        MisbehavingSite(
            gunicorn(workers=WORKERS), database=database, MISBEHAVING_TIMEOUT="20",
            EXAMPLE_INTERVAL="3600",
        ) as site,
        background_requests() as pool,
    ):  # fmt: skip
        site.run_tests()
        assert aborted_runs(site) == 0
        with site.hanging("sleep"):
            request = pool.submit(site.run_tests)
            wait_for(site.has_open_transaction, what="a row that is written and not committed")
            kill_workers(site)
            assert not got_response(request)
        site.wait_for_rollback()
        assert site.committed_rows() == 0
        assert site.run_tests()["status"] == "PASS"
        assert aborted_runs(site) == 1
        assert site.metrics().value("smoketest_abandoned_tests") == 0


def test_metrics__database_down() -> None:
    """While the database is down, the metrics page still works and reports the failures."""
    with PostgreSQL() as database, MisbehavingSite(gunicorn(workers=1), database=database) as site:
        assert site.run_tests()["status"] == "PASS"
        database.kill9()
        assert site.get("/").status == 500
        assert site.metrics().value("smoketest_last_run_success") == 1
        report = site.run_tests()
        assert report["status"] == "FAIL"
        problems = {
            result["id"].partition(".")[0]
            for result in report["results"]
            if result["outcome"] == "errored"
        }
        assert problems == {"catalog", "orders"}, "tests without a database must pass"
        exposition = site.metrics()
        assert exposition.value("smoketest_last_run_success") == 0
        assert exposition.value("smoketest_results_store_up") == 1
        database.start()
        assert site.run_tests()["status"] == "PASS"
        assert site.metrics().value("smoketest_last_run_success") == 1
