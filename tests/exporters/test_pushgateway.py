"""Pushes to a Pushgateway: complete, grouped, and without passwords in error messages."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from smoketest.exporters import ExportError, pushgateway
from smoketest.metrics import TEXT, Context, SmokeTestCollector, expose
from tests.builders import make_declaration, make_known_test, make_result, make_snapshot
from tests.servers.exposition import Exposition
from tests.servers.processes import free_port
from tests.servers.pushgateway import Pushgateway

SECRET = "hunter2"


def collector(*names: str) -> SmokeTestCollector:
    """Return a collector for a store with these tests."""
    snapshot = make_snapshot(
        *(
            make_known_test(make_result(declaration=make_declaration(f"polls.smoke.T.{name}")))
            for name in names or ("test_vote",)
        )
    )
    return SmokeTestCollector(lambda: snapshot, lambda: Context(interval=60))


def push(url: str, source: SmokeTestCollector | None = None, **options: Any) -> None:
    """Push with the default labels of the command."""
    defaults: dict[str, Any] = {"job": "smoketest", "grouping_key": {"instance": "web-1"}}
    group = pushgateway.Group(url=url, **defaults | options)
    pushgateway.push(group, source or collector())


class Requests(HTTPServer):
    """Server that records requests and returns a configurable response."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.answer = (202, b"")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Handler that records the request of a push."""

    server: Requests

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server does
        pass


@pytest.fixture
def requests() -> Iterator[Requests]:
    """Start a server that accepts pushes."""
    with Requests() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Pushgateway]:
    """Start a real Pushgateway."""
    with Pushgateway() as gateway:
        yield gateway


def test_push__all_series(gateway: Pushgateway) -> None:
    """Every series is stored with its value, the job and the grouping key."""
    push(gateway.url, job="smoke", grouping_key={"instance": "web-1", "region": "eu/west"})
    seen = gateway.metrics()
    added = {("job", "smoke"), ("instance", "web-1"), ("region", "eu/west")}
    for (name, labels), value in Exposition(expose(collector(), TEXT).decode()).samples.items():
        assert seen.samples[name, labels | added] == value


def test_push__replaces_its_group(gateway: Pushgateway) -> None:
    """A push replaces all series of its group, and leaves other groups unchanged."""
    for instance in ("web-1", "web-2"):
        push(
            gateway.url, collector("test_old"), job="replaced", grouping_key={"instance": instance}
        )
    push(gateway.url, collector("test_new"), job="replaced", grouping_key={"instance": "web-1"})
    known = gateway.metrics().matching("smoketest_test_info", job="replaced")
    assert {(dict(labels)["instance"], dict(labels)["test"]) for _, labels in known} == {
        ("web-1", "polls.smoke.T.test_new"),
        ("web-2", "polls.smoke.T.test_old"),
    }


def test_push__without_a_scheme(gateway: Pushgateway) -> None:
    """A URL without a scheme is accepted, as by other clients of the Pushgateway."""
    push(gateway.address, job="short")
    assert gateway.metrics().matching("smoketest_test_info", job="short")


def test_push__url_with_path(requests: Requests) -> None:
    """The URL may contain a path, with or without a trailing slash."""
    push(f"http://{requests.address}/gateway/")
    ((command, path, _, body),) = requests.seen
    assert (command, path) == ("PUT", "/gateway/metrics/job/smoketest/instance/web-1")
    assert body == expose(collector(), TEXT)


def test_push__basic_auth(requests: Requests) -> None:
    """The credentials are sent in the Authorization header, which is omitted without a user."""
    push(f"http://{requests.address}", username="shop", password=SECRET)
    push(f"http://{requests.address}")
    credentials = base64.b64encode(f"shop:{SECRET}".encode()).decode()
    (_, _, first, _), (_, _, second, _) = requests.seen
    assert first["Authorization"] == f"Basic {credentials}"
    assert "Authorization" not in second


def all_messages(error: BaseException) -> str:
    """Return the messages of an error and its causes."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(texts)


def test_push__invalid_credentials(requests: Requests) -> None:
    """If credentials are rejected, the error shows the response but not the password."""
    requests.answer = (401, b"Unauthorized\n")
    with pytest.raises(ExportError) as failure:
        push(f"http://{requests.address}", username="shop", password=SECRET)
    assert str(failure.value) == (
        f"The Pushgateway at http://{requests.address} returned 401: Unauthorized."
    )
    assert SECRET not in all_messages(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        f"http://shop:{SECRET}@HOST",
        f"http://shop:{SECRET}@HOST/gateway?token={SECRET}",
        f"shop:{SECRET}@HOST",
        f"http://{SECRET}@HOST",
        f"http://shop:{SECRET}@HOST#fragment",
    ],
)
@pytest.mark.parametrize("answer", [None, 401, 500])
def test_push__password_in_the_url(requests: Requests, url: str, answer: int | None) -> None:
    """A password in the URL never appears in an error message."""
    if answer is None:
        url = url.replace("HOST", f"127.0.0.1:{free_port()}")
    else:
        requests.answer = (answer, b"No.")
        url = url.replace("HOST", requests.address)
    with pytest.raises(ExportError) as failure:
        push(url)
    assert SECRET not in str(failure.value)
    assert "127.0.0.1" in str(failure.value)


def test_push__connection_refused() -> None:
    """The error suggests checking the URL."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ExportError) as failure:
        push(f"http://{address}")
    assert str(failure.value).startswith(f"The Pushgateway at http://{address} cannot be reached: ")
    assert "Connection refused" in str(failure.value)
    assert "Check the URL." in str(failure.value)


def test_push__rejected_by_gateway(gateway: Pushgateway) -> None:
    """The error includes the response of a real Pushgateway."""
    with pytest.raises(ExportError, match=r"returned 400: .*bad-name"):
        push(gateway.url, grouping_key={"bad-name": "x"})


@pytest.mark.parametrize("status", [301, 404, 413, 500, 503])
def test_push__error_status(requests: Requests, status: int) -> None:
    """Any status except success raises an error with the status and the truncated body."""
    requests.answer = (status, b"x" * 5000)
    with pytest.raises(ExportError, match=f"returned {status}: x{{100}}") as failure:
        push(f"http://{requests.address}")
    assert len(str(failure.value)) < 1000


@contextlib.contextmanager
def non_http_server(data: bytes | None) -> Iterator[str]:
    """Start a server that sends these bytes instead of a response, or nothing if None."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connections.append(connection)
                if data is not None:
                    connection.recv(100_000)
                    connection.sendall(data)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends a blocked accept()
            thread.join(5)
            for connection in connections:
                connection.close()


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 x\r\n\r\n"])
def test_push__non_http_server(data: bytes) -> None:
    """A server that does not speak HTTP raises an ExportError."""
    with non_http_server(data) as address, pytest.raises(ExportError, match=address):
        push(f"http://{address}")


def test_push__timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that does not respond times out."""
    monkeypatch.setattr(pushgateway, "TIMEOUT", 0.2)
    with non_http_server(None) as address, pytest.raises(ExportError, match="timed out"):
        push(f"http://{address}")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "",
        "http://[::1",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "http://127.0.0.1/with space",
        "http://no such host",
        "https://127.0.0.1:1",
    ],
)
def test_push__invalid_url(url: str) -> None:
    """An invalid URL raises an ExportError."""
    with pytest.raises(ExportError, match="Pushgateway"):
        push(url)


def test_push__label_quoting(gateway: Pushgateway) -> None:
    """Label values may contain any character."""
    push(gateway.url, job="50%/100%", grouping_key={"instance": "ü?#&="})
    labels = {"job": "50%/100%", "instance": "ü?#&="}
    assert gateway.metrics().value("smoketest_results_store_up", **labels) == 1
