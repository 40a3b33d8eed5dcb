"""What the site promises under each application server; `docs/servers.md` prints it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from smoketest.results import Selection
from tests.e2e.promises import TIMEOUT
from tests.e2e.promises.site import STAY, PromiseSite, meanwhile
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import is_alive, wait_for
from tests.servers.site import Command, gunicorn, uvicorn, uwsgi

pytestmark = pytest.mark.e2e

#: Seconds that an answer may take on a slow machine. Without the promise it would wait for the
#: deadline of the run, 25 seconds, or for the test that hangs, ten minutes.
IN_TIME = 20.0

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
    """The scrape does not wait for the run, which ends while the server has nothing to do."""
    site, _ = place
    store = site.store()
    with site.staying():
        asked_at = time.time()
        assert not site.metrics().matching("smoketest_last_run_timestamp_seconds")
        site.wait_until_it_began()
        assert store.latest_report(Selection(), failfast=False) is None, "the scrape has waited"
    wait_for(lambda: store.latest_report(Selection(), failfast=False), what="the end of the run")
    ended_before = time.time()
    exposition = site.metrics()
    ended_at = exposition.value("smoketest_last_run_timestamp_seconds")
    assert asked_at < ended_at < ended_before
    assert exposition.value("smoketest_last_run_success") == 1


@everywhere
def test_suite__passes(place: Place) -> None:
    """Every test of the example; where there is one event loop for all, not the `async` one."""
    site, server = place
    report = site.run_tests()
    assert report["status"] == "PASS", report["results"]
    outcomes = {result["id"]: result["outcome"] for result in report["results"]}
    assert outcomes[ASYNC_TEST] == ("skipped" if server.has_hub else "passed")
    assert not {"failed", "errored", "timed_out", "not_run"} & set(outcomes.values())


def assert_is_answered_in_time(place: Place, how: str) -> None:
    """The answer does not wait for the test that hangs, and the site answers meanwhile.

    A second test keeps the run in progress until another page has been answered. Nothing that the
    test did is kept or held, although it still hangs.
    """
    site = place.site
    with site.hanging(how), meanwhile() as pool:
        with site.staying():
            request = pool.submit(site.run_one, how, STAY)
            site.wait_until_it_began(how)
            site.wait_until_it_began()
            assert site.get("/", timeout=IN_TIME).status == 200
            assert not request.done()
        assert request.result(IN_TIME)["outcome"] == "timed_out"
        site.wait_until_free()
        assert site.written() == 0


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


def stops_other_pages(site: PromiseSite, how: str) -> bool:
    """Whether a page is not answered before the test that hangs is released."""
    with meanwhile() as pool:
        with site.hanging(how):
            request = pool.submit(site.run_one, how)
            site.wait_until_it_began(how)
            page = pool.submit(site.get, "/")
            # Longer than the timeout, and long enough for a page that can be answered.
            time.sleep(4 * TIMEOUT)
            is_stopped = not page.done()
        assert page.result().status == 200
        assert request.result()["outcome"] == "timed_out"
    site.wait_until_free()
    assert site.written() == 0
    return is_stopped


@under_each_server
def test_busy_loop__is_answered_in_time_or_stops_the_hub(place: Place) -> None:
    """A test that never waits: under gevent it stops everything, the supervision included."""
    if not place.server.has_hub:
        assert_is_answered_in_time(place, "busy_loop")
        return
    assert stops_other_pages(place.site, "busy_loop"), "correct the docs"


@under_each_server
def test_c_code__that_holds_the_interpreter_lock(place: Place) -> None:
    """No thread of its process runs until it releases the lock; another process answers."""
    is_stopped = stops_other_pages(place.site, "hold_the_interpreter")
    if not place.server.has_more_processes:
        assert is_stopped, "correct the docs"


@where_it_reloads
def test_reload__is_not_held_up_by_an_abandoned_thread(place: Place) -> None:
    """The old workers end although a test hangs in them; the new ones do not report it."""
    site, _ = place
    workers = set(site.workers())
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        place.server.reload(site)
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


@everywhere
def test_stop__is_not_held_up_by_an_abandoned_thread(place: Place) -> None:
    """A server that is told to end does so although a test hangs; nothing has to be killed."""
    site, _ = place
    with site.hanging("sleep"):
        assert site.run_one("sleep")["outcome"] == "timed_out"
        assert site.stop() == []
    site.wait_until_free()
    assert site.written() == 0
