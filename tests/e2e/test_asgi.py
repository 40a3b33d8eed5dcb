"""The site under an ASGI server: a run is no reason to stop answering."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers.client import Response
from tests.servers.site import ExampleSite, gunicorn, uvicorn

pytestmark = pytest.mark.e2e

SUITE = 2.0
#: far above what an answer takes, and far less than a run
PATIENCE = 1.0


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    """One process with one event loop, whose suite takes two seconds."""
    with ExampleSite(uvicorn(), EXAMPLE_SLEEP=str(SUITE)) as site:
        yield site


def assert_quick_during_a_run(site: ExampleSite, probe: Callable[[], object]) -> None:
    """Probe again and again while the tests run; every probe must be quick."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(site.run_tests)
        times = []
        while not run.done():
            started = time.monotonic()
            probe()
            times.append(time.monotonic() - started)
            time.sleep(0.05)
        assert run.result()["status"] == "PASS"
    assert max(times) < PATIENCE
    assert len(times) > 5, "the run was over too soon to show anything"


def test_sync_view__answers_during_a_run(site: ExampleSite) -> None:
    """Other sync views of the site answer as usual while the tests run."""

    def page() -> None:
        assert site.get("/").status == 200

    assert_quick_during_a_run(site, page)


def test_event_loop__runs_on_during_a_run(site: ExampleSite) -> None:
    """The loop itself, which refuses a malformed request without any view, is not blocked."""

    def nonsense() -> None:
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")

    assert_quick_during_a_run(site, nonsense)


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; all elements of a list by what they have in common."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sorted({repr(shape(item)) for item in value})]
    return type(value).__name__ if not isinstance(value, int | float) else "number"


def test_answer__equals_that_of_wsgi(site: ExampleSite) -> None:
    """A reader cannot tell from the JSON or its headers which kind of server answered."""
    headers = {"Accept": "application/json", "Cache-Control": "no-cache"}

    def ask(site: ExampleSite) -> Response:
        return site.get("/smoketest/", headers)

    with ExampleSite(gunicorn(workers=1)) as wsgi_site:
        wsgi, asgi = ask(wsgi_site), ask(site)
    assert (asgi.status, wsgi.status) == (200, 200)
    assert shape(asgi.json()) == shape(wsgi.json())
    for header in ("Content-Type", "Cache-Control", "Vary"):
        assert asgi.headers[header] == wsgi.headers[header]
    assert int(asgi.headers["Age"]) <= 1
