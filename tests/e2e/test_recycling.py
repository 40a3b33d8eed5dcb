"""Background runs in worker processes that end: recycled, reloaded or stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import eq

import pytest

from smoketest.results import RunResult
from tests.e2e.misbehaving.site import MisbehavingSite
from tests.e2e.test_server_guarantees import send_sighup, touch_reload_file
from tests.servers.processes import is_alive, wait_for
from tests.servers.site import Command, gunicorn, uvicorn, uwsgi

pytestmark = pytest.mark.e2e

#: Number of runs in recycled workers.
RUNS = 6
WAITING = "Waiting for the end of a run of the smoke tests"
#: Long enough for a slow machine.
GRACE = ("--graceful-timeout=60", "--timeout=120")
UWSGI_GRACE = "--worker-reload-mercy=60"
RECYCLING = ("--max-requests=1", *GRACE)
UWSGI_RECYCLING = ("--max-requests=1", "--min-worker-lifetime=0", UWSGI_GRACE)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(gunicorn(*RECYCLING, workers=1), id="sync"),
        pytest.param(
            gunicorn(*RECYCLING, worker_class="gthread", threads=2, workers=1), id="gthread"
        ),
        pytest.param(gunicorn(*RECYCLING, worker_class="gevent", workers=1), id="gevent"),
        pytest.param(uwsgi(*UWSGI_RECYCLING, workers=1), id="uwsgi"),
        pytest.param(
            uwsgi(*UWSGI_RECYCLING, "--skip-atexit-teardown", workers=1), id="uwsgi-skip-atexit"
        ),
        pytest.param(uvicorn("--limit-max-requests=1", "--workers=2"), id="uvicorn"),
    ],
)
def test_recycled_worker__finishes_its_run(command: Command) -> None:
    """A worker that is replaced after each request finishes the run that the request started."""
    with MisbehavingSite(command, EXAMPLE_INTERVAL="0.01") as site:
        for count in range(1, RUNS + 1):
            with site.blocking():
                site.metrics()
                site.wait_until_started()
                wait_for(
                    lambda: site.log.count(WAITING), partial(eq, count), what="the end of a worker"
                )
            wait_for(lambda: passed_runs(site), partial(eq, count), what="the result of the run")


@pytest.mark.parametrize(
    ("command", "reload"),
    [
        pytest.param(gunicorn(*GRACE, workers=1), send_sighup, id="sync"),
        pytest.param(
            gunicorn(*GRACE, worker_class="gthread", threads=2, workers=1),
            send_sighup,
            id="gthread",
        ),
        pytest.param(gunicorn(*GRACE, worker_class="gevent", workers=1), send_sighup, id="gevent"),
        pytest.param(uwsgi(UWSGI_GRACE, workers=1), touch_reload_file, id="uwsgi"),
    ],
)
def test_reloaded_worker__finishes_its_run(
    command: Command, reload: Callable[[MisbehavingSite], None]
) -> None:
    """A worker that is replaced during a reload finishes its run."""
    with MisbehavingSite(command, EXAMPLE_INTERVAL="3600") as site:
        (worker,) = site.workers()
        with site.blocking():
            site.metrics()
            site.wait_until_started()
            reload(site)
            wait_for(lambda: WAITING in site.log, what="the end of the worker")
        wait_for(lambda: passed_runs(site) == 1, what="the result of the run")
        wait_for(lambda: not is_alive(worker), what="the end of the old worker")


def test_harakiri__shorter_than_a_run() -> None:
    """uWSGI that ends requests before the deadline of a run logs it at the start."""
    message = "uWSGI ends requests after 10 s (harakiri)"
    with MisbehavingSite(uwsgi("--harakiri=10", workers=1)) as site:
        assert site.log.count(message) == 1
    with MisbehavingSite(uwsgi("--harakiri=60", workers=1)) as site:
        assert message not in site.log
        assert "harakiri)" not in site.log


def passed_runs(site: MisbehavingSite) -> int:
    """Return the number of passed runs, without a request. No run may have been aborted."""
    totals = site.store().snapshot().run_totals
    assert set(totals) <= {RunResult.PASSED}, totals
    return int(totals.get(RunResult.PASSED, 0))
