"""Pushes to a Pushgateway: complete, grouped, and without passwords in messages."""

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
    """The metrics of a store that knows these tests."""
    snapshot = make_snapshot(
        *(
            make_known_test(make_result(declaration=make_declaration(f"polls.smoke.T.{name}")))
            for name in names or ("test_vote",)
        )
    )
    return SmokeTestCollector(lambda: snapshot, lambda: Context(interval=60))


def push(url: str, source: SmokeTestCollector | None = None, **options: Any) -> None:
    """A push with the labels that the command gives it."""
    defaults: dict[str, Any] = {"job": "smoketest", "grouping_key": {"instance": "web-1"}}
    pushgateway.push(url, source or collector(), **defaults | options)


class Requests(HTTPServer):
    """A server that keeps the requests, and answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.answer = (202, b"")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Lets in whoever has the password, if one is needed."""

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
        """Nothing."""


@pytest.fixture
def requests() -> Iterator[Requests]:
    """A server that takes pushes."""
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
    """A real Pushgateway."""
    with Pushgateway() as gateway:
        yield gateway


def test_push__arrives(gateway: Pushgateway) -> None:
    """Every series arrives with its value, and carries the job and the grouping key."""
    push(gateway.url, job="smoke", grouping_key={"instance": "web-1", "region": "eu/west"})
    seen = gateway.metrics()
    added = {("job", "smoke"), ("instance", "web-1"), ("region", "eu/west")}
    for (name, labels), value in Exposition(expose(collector(), TEXT).decode()).samples.items():
        assert seen.samples[name, labels | added] == value


def test_push__replaces_its_group(gateway: Pushgateway) -> None:
    """What the group had before is gone; another group stays."""
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
    """A host and port will do, as for Pushgateway's other clients."""
    push(gateway.address, job="short")
    assert gateway.metrics().matching("smoketest_test_info", job="short")


def test_push__below_a_path(requests: Requests) -> None:
    """A gateway behind a proxy may live below a path; a slash at its end makes no difference."""
    push(f"http://{requests.address}/gateway/")
    ((command, path, _, body),) = requests.seen
    assert (command, path) == ("PUT", "/gateway/metrics/job/smoketest/instance/web-1")
    assert body == expose(collector(), TEXT)


def test_push__basic_auth(requests: Requests) -> None:
    """User and password go into the header, and without a user there is none."""
    push(f"http://{requests.address}", username="shop", password=SECRET)
    push(f"http://{requests.address}")
    credentials = base64.b64encode(f"shop:{SECRET}".encode()).decode()
    (_, _, first, _), (_, _, second, _) = requests.seen
    assert first["Authorization"] == f"Basic {credentials}"
    assert "Authorization" not in second


def everything(error: BaseException) -> str:
    """All that a traceback would show of the error's messages, its causes' too."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(texts)


def test_push__refused_credentials(requests: Requests) -> None:
    """A wrong password: what the gateway said, and not what the password was."""
    requests.answer = (401, b"Unauthorized\n")
    with pytest.raises(ExportError) as failure:
        push(f"http://{requests.address}", username="shop", password=SECRET)
    assert str(failure.value) == (
        f"The Pushgateway at http://{requests.address} returned 401: Unauthorized."
    )
    assert SECRET not in everything(failure.value)


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
    """A password in the address is used or refused, and never shown."""
    if answer is None:
        url = url.replace("HOST", f"127.0.0.1:{free_port()}")
    else:
        requests.answer = (answer, b"No.")
        url = url.replace("HOST", requests.address)
    with pytest.raises(ExportError) as failure:
        push(url)
    assert SECRET not in str(failure.value)
    assert "127.0.0.1" in str(failure.value)


def test_push__gateway_is_down() -> None:
    """The message says that nobody is there, and what to look at."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ExportError) as failure:
        push(f"http://{address}")
    assert str(failure.value).startswith(f"The Pushgateway at http://{address} cannot be reached: ")
    assert "Connection refused" in str(failure.value)
    assert "Check the URL." in str(failure.value)


def test_push__refused_by_the_gateway(gateway: Pushgateway) -> None:
    """What a real Pushgateway has against a push is in the message."""
    with pytest.raises(ExportError, match=r"returned 400: .*bad-name"):
        push(gateway.url, grouping_key={"bad-name": "x"})


@pytest.mark.parametrize("status", [301, 404, 413, 500, 503])
def test_push__refused(requests: Requests, status: int) -> None:
    """Any answer but success is an error with the status, and with what was said, shortened."""
    requests.answer = (status, b"x" * 5000)
    with pytest.raises(ExportError, match=f"returned {status}: x{{100}}") as failure:
        push(f"http://{requests.address}")
    assert len(str(failure.value)) < 1000


@contextlib.contextmanager
def silent_server(says: bytes | None) -> Iterator[str]:
    """A server that is no HTTP server; None: it says nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connections.append(connection)
                if says is not None:
                    connection.recv(100_000)
                    connection.sendall(says)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends an accept that still waits
            thread.join(5)
            for connection in connections:
                connection.close()


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 x\r\n\r\n"])
def test_push__no_http_server(says: bytes) -> None:
    """Something else listens there: an error like any other."""
    with silent_server(says) as address, pytest.raises(ExportError, match=address):
        push(f"http://{address}")


def test_push__no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that accepts and never answers is given up."""
    monkeypatch.setattr(pushgateway, "TIMEOUT", 0.2)
    with silent_server(None) as address, pytest.raises(ExportError, match="timed out"):
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
def test_push__wrong_address(url: str) -> None:
    """An address that is none is an error that says so, and no traceback."""
    with pytest.raises(ExportError, match="Pushgateway"):
        push(url)


def test_push__quotes_labels(gateway: Pushgateway) -> None:
    """Any value of a label arrives as it is."""
    push(gateway.url, job="50%/100%", grouping_key={"instance": "ü?#&="})
    labels = {"job": "50%/100%", "instance": "ü?#&="}
    assert gateway.metrics().value("smoketest_results_store_up", **labels) == 1
