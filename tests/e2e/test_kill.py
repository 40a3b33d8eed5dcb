"""SIGKILL at the worst of moments costs one run, and nothing else."""

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

from tests.e2e.promises.site import PromiseSite, meanwhile
from tests.servers.exposition import Exposition, Series
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

WORKERS = 2

#: Records the latest report over and over; without Django, so that it starts at once.
RECORD_FOR_EVER = """
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
def site() -> Iterator[PromiseSite]:
    """A site whose runs can be kept in progress."""
    with PromiseSite(gunicorn(workers=WORKERS), EXAMPLE_INTERVAL="3600") as site:
        site.wait_for_workers(WORKERS)
        site.run_tests()
        yield site


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """A thread that asks while the test kills."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def answered(request: Future[Any]) -> bool:
    """Whether the request got an answer, instead of a connection that broke."""
    try:
        request.result()
    except (OSError, http.client.HTTPException):
        return False
    return True


def whole_runs(before: Mapping[Series, float], after: Mapping[Series, float]) -> float:
    """How many passing runs were counted meanwhile, in the totals of the runs and of each test."""
    moved: dict[str, float] = {}
    for (name, labels), total in after.items():
        source = f"{name} {dict(labels).get('test', '')}"
        moved[source] = moved.get(source, 0) + total - before[name, labels]
    assert len(set(moved.values())) == 1, f"half a run was counted: {moved}"
    return next(iter(moved.values()))


def aborted_runs(site: PromiseSite) -> float:
    """How many runs are known to have ended with their process."""
    return site.metrics().value("smoketest_runs_total", result="aborted")


def kill_workers(site: PromiseSite) -> None:
    """Kill all workers at once; gunicorn starts others."""
    workers = site.workers()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        site.workers,
        lambda found: len(found) == WORKERS and not set(found) & set(workers),
        what="new workers",
    )


def assert_intact(site: PromiseSite, totals: Mapping[Series, float]) -> Exposition:
    """The results can be read, and no total went back."""
    exposition = site.metrics()
    assert exposition.value("smoketest_results_store_up") == 1
    for series, total in totals.items():
        assert exposition.samples[series] >= total, series
    return exposition


def assert_next_run_is_normal(site: PromiseSite) -> Exposition:
    """Nobody holds the lock, no test is thought to run still, and the run counts once."""
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
def test_kill__in_the_middle_of_a_run(site: PromiseSite, reached: str) -> None:
    """A run that is killed counts nowhere, and the next one need not wait for it."""
    totals = site.metrics().totals()
    with (
        site.staying(),
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
    """What arrives before the stream ends or breaks off."""
    try:
        return stream.read()
    except http.client.IncompleteRead as error:
        return error.partial
    except OSError:
        return b""


def test_kill__as_the_run_ends(site: PromiseSite, background: ThreadPoolExecutor) -> None:
    """A run that is killed around its end is counted or not, and the next one is normal."""
    for late in (0.0, 0.01, 0.02, 0.04):
        totals = site.metrics().totals()
        with site.staying():
            request = background.submit(site.run_tests)
            site.wait_until_it_began()
        time.sleep(late)
        kill_workers(site)
        answered(request)
        counted = whole_runs(totals, assert_intact(site, totals).totals())
        assert counted in (0, 1)
        assert_next_run_is_normal(site)


def test_kill__in_the_middle_of_store_writes(site: PromiseSite) -> None:
    """Processes that do nothing but record runs, killed at random: no run is counted by halves."""
    recorded = 0.0
    for attempt in range(20):
        totals = site.metrics().totals()
        state = str(site.data_folder / "smoketest")
        with site.spawn(sys.executable, "-c", RECORD_FOR_EVER, state) as recorder:
            assert recorder.stdout is not None
            assert recorder.stdout.readline() == b"recording\n"
            time.sleep(0.05 + attempt * 0.0013)
            recorder.kill()
        recorded += whole_runs(totals, assert_intact(site, totals).totals())
    assert recorded > 20, "too little was recorded to be hit in the middle"
    assert_next_run_is_normal(site)


def test_kill__of_the_command(site: PromiseSite) -> None:
    """A killed `manage.py smoketest` holds up neither the site nor the next command."""
    totals = site.metrics().totals()
    with site.staying(), site.spawn(sys.executable, "manage.py", "smoketest") as command:
        site.wait_until_it_began()
        command.kill()
    assert assert_intact(site, totals).totals() == totals
    assert_next_run_is_normal(site)
    site.manage("smoketest")


def test_kill__ends_a_hanging_test(site: PromiseSite) -> None:
    """A test that hangs is remembered by all processes until the one that runs it is gone."""
    site.break_("hang")
    try:
        assert site.run_tests()["tests_timed_out"] == 1
        assert site.metrics().value("smoketest_abandoned_tests") == 1
    finally:
        site.mend()
    assert "still running since" in site.manage("smoketest", check=False).stdout
    kill_workers(site)
    assert site.metrics().value("smoketest_abandoned_tests") == 0
    assert_next_run_is_normal(site)


@pytest.mark.parametrize("make_database", [None, PostgreSQL], ids=["sqlite", "postgresql"])
def test_kill__of_the_worker_keeps_nothing_in_the_database(
    make_database: type[PostgreSQL] | None,
) -> None:
    """What it wrote is rolled back, its lock is free, and the next run counts it as aborted."""
    with (
        make_database() if make_database else nullcontext() as database,
        PromiseSite(
            gunicorn(workers=WORKERS), database=database, PROMISES_TIMEOUT="20",
            EXAMPLE_INTERVAL="3600",
        ) as site,
        meanwhile() as pool,
    ):  # fmt: skip
        site.run_tests()
        assert aborted_runs(site) == 0
        with site.hanging("sleep"):
            request = pool.submit(site.run_tests)
            wait_for(site.is_held, what="a row that is written and not committed")
            kill_workers(site)
            assert not answered(request)
        site.wait_until_free()
        assert site.written() == 0
        assert site.run_tests()["status"] == "PASS"
        assert aborted_runs(site) == 1
        assert site.metrics().value("smoketest_abandoned_tests") == 0


def test_metrics__need_no_database() -> None:
    """While the site's database is down its pages fail, and the metrics say what the tests say."""
    with PostgreSQL() as database, PromiseSite(gunicorn(workers=1), database=database) as site:
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
        assert problems == {"catalog", "orders"}, "those that need no database pass"
        exposition = site.metrics()
        assert exposition.value("smoketest_last_run_success") == 0
        assert exposition.value("smoketest_results_store_up") == 1
        database.start()
        assert site.run_tests()["status"] == "PASS"
        assert site.metrics().value("smoketest_last_run_success") == 1
