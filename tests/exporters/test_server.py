"""The stand-alone server of the metrics: both formats, TLS, and a clean end."""

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
    """The metrics of a store that knows one test."""
    return SmokeTestCollector(lambda: SNAPSHOT, lambda: Context(interval=60))


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server without TLS."""
    number = free_port()
    with serving("127.0.0.1", number, collector(), None, None):
        yield number


class Certificate:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""

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
        """A scrape that trusts this certificate and no other; the body is read."""
        context = ssl.create_default_context(cafile=str(self.file))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            response = connection.getresponse()
            assert b"smoketest_results_store_up 1.0" in response.read()
            return response


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate that openssl made."""
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("accept", ["", "text/plain", "text/plain;version=0.0.4", "*/*"])
def test_serving__text(port: int, accept: str) -> None:
    """Text 0.0.4 for those who do not ask for another, and promtool finds nothing."""
    response = get(port, "/metrics", {"Accept": accept} if accept else {})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.body == expose(collector(), TEXT)
    done = check_metrics(response.text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_serving__open_metrics(port: int) -> None:
    """OpenMetrics 1.0 for those who ask as Prometheus does; a strict parser reads it."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    response = get(port, "/metrics", {"Accept": accept})
    assert response.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert response.body == expose(collector(), OPEN_METRICS)
    assert list(text_string_to_metric_families(response.text))  # type: ignore[no-untyped-call]


def test_serving__asks_at_each_scrape() -> None:
    """A scrape shows what is known then."""
    known = [make_snapshot()]
    source = SmokeTestCollector(lambda: known[0], lambda: Context(interval=60))
    port = free_port()
    with serving("127.0.0.1", port, source, None, None):
        assert "polls.smoke.PollsTest.test_vote" not in get(port, "/metrics").text
        known[0] = SNAPSHOT
        assert "polls.smoke.PollsTest.test_vote" in get(port, "/metrics").text


def test_serving__nothing_is_asked_before_a_scrape() -> None:
    """A store that cannot be read yet does not keep the server from starting."""

    def fail() -> Context:
        raise RuntimeError("too early")

    with serving("127.0.0.1", free_port(), SmokeTestCollector(make_snapshot, fail), None, None):
        pass


def test_serving__ipv6() -> None:
    """It serves an address of IPv6 too."""
    port = free_port()
    with serving("::1", port, collector(), None, None):
        connection = http.client.HTTPConnection("::1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return set(threading.enumerate()) - before


@pytest.mark.parametrize("is_orderly", [True, False])
def test_serving__stops_on_leaving(is_orderly: bool) -> None:
    """After the body, also one that failed, nothing listens and no thread is left."""
    port, before = free_port(), set(threading.enumerate())
    with contextlib.suppress(KeyError), serving("127.0.0.1", port, collector(), None, None):
        assert get(port, "/metrics").status == 200
        if not is_orderly:
            raise KeyError
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")
    # The thread of an answered request ends by itself.
    wait_for(lambda: not new_threads(before), what="the end of the threads")
    with serving("127.0.0.1", port, collector(), None, None):  # the port is free again
        assert get(port, "/metrics").status == 200


def test_serving__port_is_taken() -> None:
    """The message names the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(ExportError, match=rf"served on 127\.0\.0\.1:{port}: .*already in use"),
            serving("127.0.0.1", port, collector(), None, None),
        ):
            raise AssertionError("served")


def test_serving__unknown_host() -> None:
    """A host that is not this machine's: an error, and no traceback."""
    with (
        pytest.raises(ExportError, match=r"cannot be served on 192\.0\.2\.1:\d+: "),
        serving("192.0.2.1", free_port(), collector(), None, None),
    ):
        raise AssertionError("served")


def test_tls__is_served(certificate: Certificate) -> None:
    """A client that trusts the certificate is answered; plain HTTP is not."""
    port = free_port()
    with serving("127.0.0.1", port, collector(), certificate.file, certificate.key):
        assert certificate.get(port).status == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/metrics")
        assert certificate.get(port).status == 200


def test_tls__silent_client_holds_up_nobody(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that connects and says nothing neither keeps others out, nor the server alive."""
    monkeypatch.setattr("smoketest.exporters.server.CLIENT_TIMEOUT", 600)
    port = free_port()
    server = serving("127.0.0.1", port, collector(), certificate.file, certificate.key)
    server.__enter__()
    before = set(threading.enumerate())
    leaving = threading.Thread(target=server.__exit__, args=(None, None, None), daemon=True)
    with socket.create_connection(("127.0.0.1", port)):
        try:
            wait_for(lambda: new_threads(before), within=30, what="a thread for the silent client")
            assert certificate.get(port).status == 200
        finally:
            leaving.start()
            leaving.join(30)
            is_left = not leaving.is_alive()
    leaving.join(30)
    assert is_left


@pytest.mark.parametrize("fault", ["missing", "garbage", "other key"])
def test_tls__wrong_certificate(certificate: Certificate, tmp_path: Path, fault: str) -> None:
    """The message names the files, and the port is free at once for another try."""
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
