"""Guarantees of the site under each application server, as documented in `docs/servers.md`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from smoketest.results import Selection
from tests.e2e.misbehaving import TIMEOUT
from tests.e2e.misbehaving.site import BLOCK, MisbehavingSite, background_requests
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import is_alive, wait_for
from tests.servers.site import Command, gunicorn, uvicorn, uwsgi

pytestmark = pytest.mark.e2e

#: Maximum response time in seconds on a slow machine. A blocked response would take 25 seconds,
#: the deadline of the run, or ten minutes, the duration of a hanging test.
MAX_RESPONSE_TIME = 20.0

ASYNC_TEST = "catalog.smoke.CatalogTest.test_search_finds_an_author"


def send_sighup(site: MisbehavingSite) -> None:
    """Make gunicorn replace its workers."""
    os.kill(site.pid, signal.SIGHUP)


def touch_reload_file(site: MisbehavingSite) -> None:
    """Make uWSGI replace its workers."""
    (site.data_folder / "reload").touch()


class Server(NamedTuple):
    """Application server, with the properties on which its guarantees depend."""

    command: Command
    #: Whether the threads of a process are greenlets, so that code that never yields blocks all.
    has_hub: bool = False
    #: Whether another process can respond while one process is blocked by the GIL.
    has_more_processes: bool = False
    reload: Callable[[MisbehavingSite], None] = send_sighup


SERVERS = {
    "sync": Server(gunicorn(workers=2), has_more_processes=True),
    "gthread": Server(gunicorn(workers=1, worker_class="gthread", threads=4)),
    "gevent": Server(gunicorn(workers=1, worker_class="gevent"), has_hub=True),
    "uwsgi": Server(uwsgi(workers=2), has_more_processes=True, reload=touch_reload_file),
    "uvicorn": Server(uvicorn()),  # last, since it cannot reload
}
DATABASES = {"sqlite": None, "postgresql": PostgreSQL, "mariadb": MariaDB}
PAIRS = [
    *((server, "sqlite") for server in SERVERS),
    *((server, "postgresql") for server in ("sync", "gevent", "uwsgi")),
    ("gevent", "mariadb"),
]


class Deployment(NamedTuple):
    """A running site and its server."""

    site: MisbehavingSite
    server: Server


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Start the site under a server with a database."""
    server_name, database_name = request.param
    server, make_database = SERVERS[server_name], DATABASES[database_name]
    with ExitStack() as stack:
        database = stack.enter_context(make_database()) if make_database else None
        site = MisbehavingSite(server.command, database=database, EXAMPLE_INTERVAL="3600")
        yield Deployment(stack.enter_context(site), server)


# All lists of deployments start in the same way, so that pytest starts each only once.
all_deployments = pytest.mark.parametrize("deployment", PAIRS, indirect=True, ids="-".join)
#: Tests that do not depend on the database run once per server.
each_server = pytest.mark.parametrize(
    "deployment", PAIRS[: len(SERVERS)], indirect=True, ids="-".join
)
each_reloading_server = pytest.mark.parametrize(
    "deployment", PAIRS[: len(SERVERS) - 1], indirect=True, ids="-".join
)


@all_deployments
def test_scrape__starts_a_run_in_the_background(deployment: Deployment) -> None:
    """A scrape returns at once, and the run that it starts ends without further requests."""
    site, _ = deployment
    store = site.store()
    with site.blocking():
        scraped_at = time.time()
        assert not site.metrics().matching("smoketest_last_run_timestamp_seconds")
        site.wait_until_started()
        assert store.latest_report(Selection(), failfast=False) is None, (
            "the scrape waited for the run"
        )
    wait_for(lambda: store.latest_report(Selection(), failfast=False), what="the end of the run")
    ended_before = time.time()
    exposition = site.metrics()
    ended_at = exposition.value("smoketest_last_run_timestamp_seconds")
    assert scraped_at < ended_at < ended_before
    assert exposition.value("smoketest_last_run_success") == 1


@all_deployments
def test_suite__passes(deployment: Deployment) -> None:
    """All tests of the example pass; under gevent, the `async` test is skipped."""
    site, server = deployment
    report = site.run_tests()
    assert report["status"] == "PASS", report["results"]
    outcomes = {result["id"]: result["outcome"] for result in report["results"]}
    assert outcomes[ASYNC_TEST] == ("skipped" if server.has_hub else "passed")
    assert not {"failed", "errored", "timed_out", "not_run"} & set(outcomes.values())


def assert_responds_in_time(deployment: Deployment, hang: str) -> None:
    """Check that the response does not wait for the hanging test, and the site keeps responding.

    A second test keeps the run in progress until another page has been served. The transaction of
    the hanging test is rolled back while the test still hangs.
    """
    site = deployment.site
    with site.hanging(hang), background_requests() as pool:
        with site.blocking():
            request = pool.submit(site.run_one, hang, BLOCK)
            site.wait_until_started(hang)
            site.wait_until_started()
            assert site.get("/", timeout=MAX_RESPONSE_TIME).status == 200
            assert not request.done()
        assert request.result(MAX_RESPONSE_TIME)["outcome"] == "timed_out"
        site.wait_for_rollback()
        assert site.committed_rows() == 0


@all_deployments
def test_sleep__responds_in_time(deployment: Deployment) -> None:
    assert_responds_in_time(deployment, "sleep")


@all_deployments
def test_query__responds_in_time(deployment: Deployment) -> None:
    if deployment.server.has_hub and deployment.site.database is None:
        pytest.skip("SQLite runs in the process, so a query blocks the gevent hub like a busy loop")
    assert_responds_in_time(deployment, "statement")


@each_server
def test_silent_socket__responds_in_time(deployment: Deployment) -> None:
    assert_responds_in_time(deployment, "silent_socket")


def blocks_other_pages(site: MisbehavingSite, hang: str) -> bool:
    """Return whether another page has to wait until the hanging test is released."""
    with background_requests() as pool:
        with site.hanging(hang):
            request = pool.submit(site.run_one, hang)
            site.wait_until_started(hang)
            page = pool.submit(site.get, "/")
            # Longer than the timeout, and enough time to serve a page.
            time.sleep(4 * TIMEOUT)
            is_blocked = not page.done()
        assert page.result().status == 200
        assert request.result()["outcome"] == "timed_out"
    site.wait_for_rollback()
    assert site.committed_rows() == 0
    return is_blocked


@each_server
def test_busy_loop__responds_in_time_or_blocks_gevent(deployment: Deployment) -> None:
    """A busy loop times out, except under gevent, where it blocks the whole process."""
    if not deployment.server.has_hub:
        assert_responds_in_time(deployment, "busy_loop")
        return
    assert blocks_other_pages(deployment.site, "busy_loop"), "update docs/servers.md"


@each_server
def test_c_code__holding_the_gil(deployment: Deployment) -> None:
    """C code that holds the GIL blocks its process, but not the others."""
    is_blocked = blocks_other_pages(deployment.site, "hold_the_interpreter")
    if not deployment.server.has_more_processes:
        assert is_blocked, "update docs/servers.md"


@each_reloading_server
def test_reload__with_abandoned_test(deployment: Deployment) -> None:
    """Workers with a hanging test are replaced, and new ones report no abandoned test."""
    site, _ = deployment
    workers = set(site.workers())
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        deployment.server.reload(site)
        wait_for(
            lambda: [pid for pid in workers if is_alive(pid)],
            lambda alive: not alive,
            what="the end of the old workers",
        )
    wait_for(
        lambda: site.metrics().value("smoketest_abandoned_tests"),
        lambda count: count == 0,
        what="no abandoned test",
    )
    assert site.run_one("sleep")["outcome"] == "skipped"


@all_deployments
def test_stop__with_abandoned_test(deployment: Deployment) -> None:
    """A server stops on SIGTERM although a test hangs, and no process has to be killed."""
    site, _ = deployment
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        assert site.stop() == []
    site.wait_for_rollback()
    assert site.committed_rows() == 0
