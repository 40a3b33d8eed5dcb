"""The site under an ASGI server keeps responding during a run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.misbehaving.site import MisbehavingSite, background_requests
from tests.servers.client import Response
from tests.servers.site import gunicorn, uvicorn

pytestmark = pytest.mark.e2e

#: Maximum response time in seconds on a slow machine. The deadline of the run is 25 s.
MAX_RESPONSE_TIME = 20.0


@pytest.fixture(scope="module")
def site() -> Iterator[MisbehavingSite]:
    """Start a single process with one event loop."""
    with MisbehavingSite(uvicorn()) as site:
        yield site


def assert_responds_during_a_run(site: MisbehavingSite, probe: Callable[[], object]) -> None:
    """Probe several times while a run is in progress."""
    with background_requests() as pool:
        with site.blocking():
            run = pool.submit(site.run_tests)
            site.wait_until_started()
            for _ in range(5):
                probe()
            assert not run.done()
        assert run.result()["status"] == "PASS"


def test_sync_view__responds_during_a_run(site: MisbehavingSite) -> None:
    """Other sync views respond while the tests run."""

    def page() -> None:
        assert site.get("/", timeout=MAX_RESPONSE_TIME).status == 200

    assert_responds_during_a_run(site, page)


def test_event_loop__not_blocked_during_a_run(site: MisbehavingSite) -> None:
    """The event loop is not blocked: it rejects a malformed request, which reaches no view."""

    def malformed_request() -> None:
        with socket.create_connection(
            ("127.0.0.1", site.port), timeout=MAX_RESPONSE_TIME
        ) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")

    assert_responds_during_a_run(site, malformed_request)


def shape(value: Any) -> Any:
    """Return the keys and types of a JSON value, merged for the elements of a list."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sorted({repr(shape(item)) for item in value})]
    return type(value).__name__ if not isinstance(value, int | float) else "number"


def test_response__equal_under_asgi_and_wsgi(site: MisbehavingSite) -> None:
    """The JSON and its headers are the same under ASGI and WSGI."""
    headers = {"Accept": "application/json", "Cache-Control": "no-cache"}

    def fetch(site: MisbehavingSite) -> Response:
        return site.get("/smoketest/", headers)

    with MisbehavingSite(gunicorn(workers=1)) as wsgi_site:
        wsgi, asgi = fetch(wsgi_site), fetch(site)
    assert (asgi.status, wsgi.status) == (200, 200)
    assert shape(asgi.json()) == shape(wsgi.json())
    for header in ("Content-Type", "Cache-Control", "Vary"):
        assert asgi.headers[header] == wsgi.headers[header]
    assert asgi.headers["Age"] == wsgi.headers["Age"] == "0"
