"""Stand-alone metrics server: formats, TLS and shutdown."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from smoketest.exporters import ExportError
from smoketest.exporters.server import serving
from smoketest.metrics import OPEN_METRICS, TEXT, Context, SmokeTestCollector, expose
from tests.builders import make_known_test, make_snapshot
from tests.servers.client import get
from tests.servers.processes import free_port, wait_for
from tests.servers.prometheus import check_metrics
from tests.servers.services import require

SNAPSHOT = make_snapshot(make_known_test())


def collector() -> SmokeTestCollector:
    """Return a collector for a store with one test."""
    return SmokeTestCollector(lambda: SNAPSHOT, lambda: Context(interval=60))


@pytest.fixture
def port() -> Iterator[int]:
    """Start a server without TLS and return its port."""
    number = free_port()
    with serving("127.0.0.1", number, collector(), None, None):
        yield number


class Certificate:
    """Self-signed certificate for 127.0.0.1, with its key."""

    def __init__(self, folder: Path) -> None:
        self.file, self.key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            [
                require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(self.file),
                "-keyout", str(self.key),
            ],
            check=True, capture_output=True,
        )  # fmt: skip

    def get(self, port: int) -> http.client.HTTPResponse:
        """Send a request that trusts only this certificate, and read the body."""
        context = ssl.create_default_context(cafile=str(self.file))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            response = connection.getresponse()
            assert b"smoketest_results_store_up 1.0" in response.read()
            return response


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate created by openssl."""
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("accept", ["", "text/plain", "text/plain;version=0.0.4", "*/*"])
def test_serving__text(port: int, accept: str) -> None:
    """The default format is text 0.0.4, which promtool accepts."""
    response = get(port, "/metrics", {"Accept": accept} if accept else {})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.body == expose(collector(), TEXT)
    done = check_metrics(response.text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_serving__open_metrics(port: int) -> None:
    """Prometheus gets OpenMetrics 1.0, which a strict parser accepts."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    response = get(port, "/metrics", {"Accept": accept})
    assert response.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert response.body == expose(collector(), OPEN_METRICS)
    assert list(text_string_to_metric_families(response.text))  # type: ignore[no-untyped-call]


def test_serving__current_values() -> None:
    """Each scrape returns current values."""
    known = [make_snapshot()]
    source = SmokeTestCollector(lambda: known[0], lambda: Context(interval=60))
    port = free_port()
    with serving("127.0.0.1", port, source, None, None):
        assert "polls.smoke.PollsTest.test_vote" not in get(port, "/metrics").text
        known[0] = SNAPSHOT
        assert "polls.smoke.PollsTest.test_vote" in get(port, "/metrics").text


def test_serving__starts_without_reading_the_store() -> None:
    """A store that is not readable yet does not prevent the server from starting."""

    def fail() -> Context:
        raise RuntimeError("too early")

    with serving("127.0.0.1", free_port(), SmokeTestCollector(make_snapshot, fail), None, None):
        pass


def test_serving__ipv6() -> None:
    port = free_port()
    with serving("::1", port, collector(), None, None):
        connection = http.client.HTTPConnection("::1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_serving__all_addresses(address: str) -> None:
    """On [::], clients of IPv6 and IPv4 are served."""
    port = free_port()
    with serving("::", port, collector(), None, None):
        connection = http.client.HTTPConnection(address, port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_serving__head(port: int, path: str, encoding: str) -> None:
    """HEAD returns the headers of GET, and no body."""
    answers = {}
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Accept-Encoding": encoding})
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if name != "Date"}
            answers[method] = (response.status, headers, response.read())
    assert answers["HEAD"] == (*answers["GET"][:2], b"")
    assert answers["HEAD"][0] == 200
    assert int(answers["HEAD"][1]["Content-Length"]) == len(answers["GET"][2]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_serving__other_methods_are_refused(port: int, method: str) -> None:
    """The server is read-only."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, "/metrics")
        assert connection.getresponse().status == 405


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return set(threading.enumerate()) - before


@pytest.mark.parametrize("without_error", [True, False])
def test_serving__cleanup(without_error: bool) -> None:
    """On exit, even after an error, the port is closed and all threads have ended."""
    port, before = free_port(), set(threading.enumerate())
    with contextlib.suppress(KeyError), serving("127.0.0.1", port, collector(), None, None):
        assert get(port, "/metrics").status == 200
        if not without_error:
            raise KeyError
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")
    # The thread of a completed request ends by itself.
    wait_for(lambda: not new_threads(before), what="the end of the threads")
    with serving("127.0.0.1", port, collector(), None, None):  # the port is free again
        assert get(port, "/metrics").status == 200


def test_serving__port_in_use() -> None:
    """The error contains the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(ExportError, match=rf"served on 127\.0\.0\.1:{port}: .*already in use"),
            serving("127.0.0.1", port, collector(), None, None),
        ):
            raise AssertionError("served")


def test_serving__unavailable_address() -> None:
    """An address of another host raises an ExportError."""
    with (
        pytest.raises(ExportError, match=r"cannot be served on 192\.0\.2\.1:\d+: "),
        serving("192.0.2.1", free_port(), collector(), None, None),
    ):
        raise AssertionError("served")


def test_tls__request(certificate: Certificate) -> None:
    """A client that trusts the certificate gets a response; plain HTTP fails."""
    port = free_port()
    with serving("127.0.0.1", port, collector(), certificate.file, certificate.key):
        assert certificate.get(port).status == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/metrics")
        assert certificate.get(port).status == 200


def test_tls__idle_client(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle TLS client blocks neither other clients nor the shutdown."""
    monkeypatch.setattr("smoketest.exporters.server.CLIENT_TIMEOUT", 600)
    port = free_port()
    server = serving("127.0.0.1", port, collector(), certificate.file, certificate.key)
    server.__enter__()
    before = set(threading.enumerate())
    stopping = threading.Thread(target=server.__exit__, args=(None, None, None), daemon=True)
    with socket.create_connection(("127.0.0.1", port)):
        try:
            wait_for(lambda: new_threads(before), within=30, what="a thread for the silent client")
            assert certificate.get(port).status == 200
        finally:
            stopping.start()
            stopping.join(30)
            is_stopped = not stopping.is_alive()
    stopping.join(30)
    assert is_stopped


@pytest.mark.parametrize("fault", ["missing", "garbage", "other key"])
def test_tls__invalid_certificate(certificate: Certificate, tmp_path: Path, fault: str) -> None:
    """The error contains the file names, and the port is released."""
    file, key = certificate.file, certificate.key
    match fault:
        case "missing":
            file = tmp_path / "missing.pem"
        case "garbage":
            file = tmp_path / "garbage.pem"
            file.write_text("no certificate")
        case "other key":
            key = Certificate(tmp_path).key
    port = free_port()
    with (
        pytest.raises(ExportError) as failure,
        serving("127.0.0.1", port, collector(), file, key),
    ):
        raise AssertionError("served")
    assert str(file) in str(failure.value)
    assert str(key) in str(failure.value)
    with serving("127.0.0.1", port, collector(), certificate.file, certificate.key):
        assert certificate.get(port).status == 200
