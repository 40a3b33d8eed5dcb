"""The site under an ASGI server: a run is no reason to stop answering."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.promises.site import PromiseSite, meanwhile
from tests.servers.client import Response
from tests.servers.site import gunicorn, uvicorn

pytestmark = pytest.mark.e2e

#: Seconds that an answer may take on a slow machine; the deadline of the run is after 25.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def site() -> Iterator[PromiseSite]:
    """One process with one event loop."""
    with PromiseSite(uvicorn()) as site:
        yield site


def assert_answered_during_a_run(site: PromiseSite, probe: Callable[[], object]) -> None:
    """Probe several times during a run that does not end before the last probe is answered."""
    with meanwhile() as pool:
        with site.staying():
            run = pool.submit(site.run_tests)
            site.wait_until_it_began()
            for _ in range(5):
                probe()
            assert not run.done()
        assert run.result()["status"] == "PASS"


def test_sync_view__answers_during_a_run(site: PromiseSite) -> None:
    """Other sync views of the site answer as usual while the tests run."""

    def page() -> None:
        assert site.get("/", timeout=PATIENCE).status == 200

    assert_answered_during_a_run(site, page)


def test_event_loop__runs_on_during_a_run(site: PromiseSite) -> None:
    """The loop itself, which refuses a malformed request without any view, is not blocked."""

    def nonsense() -> None:
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")

    assert_answered_during_a_run(site, nonsense)


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; all elements of a list by what they have in common."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sorted({repr(shape(item)) for item in value})]
    return type(value).__name__ if not isinstance(value, int | float) else "number"


def test_answer__equals_that_of_wsgi(site: PromiseSite) -> None:
    """A reader cannot tell from the JSON or its headers which kind of server answered."""
    headers = {"Accept": "application/json", "Cache-Control": "no-cache"}

    def ask(site: PromiseSite) -> Response:
        return site.get("/smoketest/", headers)

    with PromiseSite(gunicorn(workers=1)) as wsgi_site:
        wsgi, asgi = ask(wsgi_site), ask(site)
    assert (asgi.status, wsgi.status) == (200, 200)
    assert shape(asgi.json()) == shape(wsgi.json())
    for header in ("Content-Type", "Cache-Control", "Vary"):
        assert asgi.headers[header] == wsgi.headers[header]
    assert asgi.headers["Age"] == wsgi.headers["Age"] == "0"
