"""What the site promises under each application server; `docs/servers.md` prints it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.e2e.promises import HANGS_FOR, HOLDS_FOR, TIMEOUT
from tests.e2e.promises.site import PromiseSite, meanwhile
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import is_alive, wait_for
from tests.servers.site import Command, gunicorn, uvicorn, uwsgi

pytestmark = pytest.mark.e2e

#: Seconds: half a second is promised, as much again is what the request itself may take here.
IN_TIME = 0.5 + 0.5
#: Seconds within which another page has to answer, far above what it takes.
PATIENCE = 0.9
#: Seconds that a server has to end: its grace time for requests, and a second or two for itself.
GRACE = 3 + 2

ASYNC_TEST = "catalog.smoke.CatalogTest.test_search_finds_an_author"


def hang_up(site: PromiseSite) -> None:
    """Have gunicorn start its workers anew."""
    os.kill(site.pid, signal.SIGHUP)


def touch(site: PromiseSite) -> None:
    """Have uWSGI start its workers anew."""
    (site.data_folder / "reload").touch()


class Server(NamedTuple):
    """One way to serve a site."""

    command: Command
    #: Whether all threads of a process are greenlets of one: what never waits stops them all.
    has_hub: bool = False
    #: Whether another process answers while one holds the interpreter lock.
    has_more_processes: bool = False
    reload: Callable[[PromiseSite], None] = hang_up


SERVERS = {
    "sync": Server(gunicorn(workers=2), has_more_processes=True),
    "gthread": Server(gunicorn(workers=1, worker_class="gthread", threads=4)),
    "gevent": Server(gunicorn(workers=1, worker_class="gevent"), has_hub=True),
    "uwsgi": Server(uwsgi(workers=2), has_more_processes=True, reload=touch),
    "uvicorn": Server(uvicorn()),  # the last, since it cannot reload
}
DATABASES = {"sqlite": None, "postgresql": PostgreSQL, "mariadb": MariaDB}
PAIRS = [
    *((server, "sqlite") for server in SERVERS),
    *((server, "postgresql") for server in ("sync", "gevent", "uwsgi")),
    ("gevent", "mariadb"),
]


class Place(NamedTuple):
    """A site that runs, and what serves it."""

    site: PromiseSite
    server: Server


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The site under a server, on a database."""
    server_name, database_name = request.param
    server, make_database = SERVERS[server_name], DATABASES[database_name]
    with ExitStack() as stack:
        database = stack.enter_context(make_database()) if make_database else None
        site = PromiseSite(server.command, database=database, EXAMPLE_INTERVAL="3600")
        yield Place(stack.enter_context(site), server)


# All lists of places begin alike, so that pytest starts each of them once for all tests.
everywhere = pytest.mark.parametrize("place", PAIRS, indirect=True, ids="-".join)
#: What has nothing to do with the database is seen once under each server.
under_each_server = pytest.mark.parametrize(
    "place", PAIRS[: len(SERVERS)], indirect=True, ids="-".join
)
where_it_reloads = pytest.mark.parametrize(
    "place", PAIRS[: len(SERVERS) - 1], indirect=True, ids="-".join
)


@everywhere
def test_scrape__starts_a_run_that_ends_by_itself(place: Place) -> None:
    """The scrape is answered at once; the run goes on while the server has nothing to do."""
    site, _ = place
    asked_at = time.time()
    assert not site.metrics().matching("smoketest_last_run_timestamp_seconds")
    time.sleep(1.5)
    exposition = site.metrics()
    ended_at = exposition.value("smoketest_last_run_timestamp_seconds")
    assert asked_at < ended_at < asked_at + 1.5
    assert exposition.value("smoketest_last_run_success") == 1


@everywhere
def test_suite__passes(place: Place) -> None:
    """Every test of the example; where there is one event loop for all, not the `async` one."""
    site, server = place
    with meanwhile() as pool:
        request = pool.submit(site.run_tests)
        site.latencies_during(request)
        report = request.result()
    assert report["status"] == "PASS", report["results"]
    outcomes = {result["id"]: result["outcome"] for result in report["results"]}
    assert outcomes[ASYNC_TEST] == ("skipped" if server.has_hub else "passed")
    assert not {"failed", "errored", "timed_out", "not_run"} & set(outcomes.values())


def look_at_hang(place: Place, how: str) -> tuple[dict[str, Any], float, list[float]]:
    """The result of a test that hangs, when it came, and how long another page took meanwhile.

    When it has come, nothing that the test did is kept or held.
    """
    site = place.site
    with site.hanging(how), meanwhile() as pool:
        started = time.monotonic()
        request = pool.submit(site.run_one, how)
        latencies = site.latencies_during(request)
        result = request.result()
        elapsed = time.monotonic() - started
    site.wait_until_free()
    assert site.written() == 0
    return result, elapsed, latencies


def assert_is_answered_in_time(place: Place, how: str) -> None:
    """The answer comes in time, and the site answers meanwhile."""
    result, elapsed, latencies = look_at_hang(place, how)
    assert result["outcome"] == "timed_out"
    assert elapsed < TIMEOUT + IN_TIME
    assert max(latencies) < PATIENCE
    assert len(latencies) > 2, "the answer came too soon to show anything"


@everywhere
def test_sleep__is_answered_in_time(place: Place) -> None:
    """A test that waits for nothing but time."""
    assert_is_answered_in_time(place, "sleep")


@everywhere
def test_statement__is_answered_in_time(place: Place) -> None:
    """A test that waits for its database."""
    if place.server.has_hub and place.site.database is None:
        pytest.skip("SQLite is part of the process: a statement stops the hub like a busy loop")
    assert_is_answered_in_time(place, "statement")


@under_each_server
def test_silent_socket__is_answered_in_time(place: Place) -> None:
    """A test that waits for a peer which never answers."""
    assert_is_answered_in_time(place, "silent_socket")


@under_each_server
def test_busy_loop__is_answered_in_time_or_stops_the_hub(place: Place) -> None:
    """A test that never waits: under gevent nothing else goes on, the clock's watcher included."""
    if not place.server.has_hub:
        assert_is_answered_in_time(place, "busy_loop")
        return
    result, elapsed, latencies = look_at_hang(place, "busy_loop")
    assert result["outcome"] == "timed_out"
    assert HANGS_FOR < elapsed < HANGS_FOR + IN_TIME
    assert max(latencies) > HANGS_FOR / 2, "the other page was answered: correct the docs"


@under_each_server
def test_c_code__that_holds_the_interpreter_lock(place: Place) -> None:
    """No thread of the process does anything until it lets go; half a second later all is told."""
    result, elapsed, latencies = look_at_hang(place, "hold_the_interpreter")
    assert result["outcome"] == "timed_out"
    assert HOLDS_FOR < elapsed < HOLDS_FOR + IN_TIME
    if not place.server.has_more_processes:
        assert max(latencies) > HOLDS_FOR / 2, "the other page was answered: correct the docs"


@where_it_reloads
def test_reload__is_not_held_up_by_an_abandoned_thread(place: Place) -> None:
    """New workers know nothing of a test that hung in the old ones, which are gone in time."""
    site, _ = place
    workers = set(site.workers())
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        place.server.reload(site)
        wait_for(
            lambda: [pid for pid in workers if is_alive(pid)],
            lambda alive: not alive,
            within=GRACE,
            what="the end of the old workers",
        )
    wait_for(
        lambda: site.metrics().value("smoketest_abandoned_tests"),
        lambda count: count == 0,
        within=GRACE,
        what="no abandoned test",
    )
    assert site.run_one("sleep")["outcome"] == "skipped"


@everywhere
def test_stop__is_not_held_up_by_an_abandoned_thread(place: Place) -> None:
    """A server that is told to end does so in its grace time, whatever hangs."""
    site, _ = place
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        started = time.monotonic()
        left = site.stop()
        assert time.monotonic() - started < GRACE
        assert left == []
    site.wait_until_free()
    assert site.written() == 0
