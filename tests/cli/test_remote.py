"""`--url`: run the tests of a deployed site, a stub server or another service."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from smoketest.cli import remote
from smoketest.cli.remote import NothingMatchesError, RefusedError, RemoteSite, check_url
from smoketest.cli.stability import NoAnswerError
from smoketest.coordination.coordinator import Answer
from smoketest.formats.json import render
from smoketest.results import Outcome, Selection, Severity
from smoketest.store import Pause
from tests.builders import make_answer, make_declaration, make_report, make_result
from tests.servers.processes import free_port
from tests.servers.site import ExampleSite, gunicorn
from tests.servers.tls import listening, request_of

EVERYTHING = Selection()
TOKEN = "nothing-but-a-test-token"


@dataclass
class Reply:
    """A response of the stub server: its bytes, delays and truncation."""

    status: int = 200
    body: str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0
    #: Seconds before each byte.
    drip: float = 0.0
    #: Number of bytes by which Content-Length exceeds the body.
    missing: int = 0


@dataclass
class StubServer:
    """An HTTP server that sends the replies in order and repeats the last one."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    #: Path and headers of each request.
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Ends all delays when set.
    is_over: Event = field(default_factory=Event)

    def request(
        self,
        *replies: Reply,
        selection: Selection = EVERYTHING,
        token: str = "",
        failfast: bool = False,
        timeout: float = 60,
    ) -> Answer:
        self.replies = list(replies)
        site = RemoteSite(url=self.url, token=token)
        return site.run(selection, failfast=failfast, timeout=timeout)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    stub = StubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.seen.append((self.path, dict(self.headers.items())))
            reply = stub.replies.pop(0) if len(stub.replies) > 1 else stub.replies[0]
            stub.is_over.wait(reply.after)
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + reply.missing))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                if not reply.drip:
                    self.wfile.write(body)
                    return
                for byte in body:
                    stub.is_over.wait(reply.drip)
                    self.wfile.write(bytes([byte]))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server
            """Silence the request log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stub.url = f"http://127.0.0.1:{server.server_port}/smoketest/"
        yield stub
        stub.is_over.set()
        server.shutdown()
        thread.join()


@dataclass
class Clock:
    """Replacement for the `time` module of the client; only `sleep` advances it."""

    now: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(remote, "time", clock)
    return clock


def content(*results: Any, age: float = 0.0, **fields: Any) -> str:
    report = make_report(*(results or [make_result()]), **{"duration": 0.0, **fields})
    return render(make_answer(report, age=age), with_tracebacks=False)


def refused(request: Callable[[], Answer]) -> str:
    with pytest.raises(RefusedError) as failure:
        request()
    return str(failure.value)


def no_answer(request: Callable[[], Answer], *, is_timeout: bool = False) -> str:
    with pytest.raises(NoAnswerError) as failure:
        request()
    assert failure.value.is_timeout is is_timeout
    return str(failure.value)


# Requests


def test_request(stub: StubServer) -> None:
    """The default request asks for a fresh run of all tests as JSON, without a token."""
    stub.request(Reply(body=content()))
    ((path, headers),) = stub.seen
    assert path == "/smoketest/"
    assert headers["Accept"] == "application/json"
    assert headers["Cache-Control"] == "no-cache"
    assert "Authorization" not in headers


def test_request__selection(stub: StubServer) -> None:
    """Names and tags are sent as URL-encoded query parameters."""
    selection = Selection(names=("a.b", "ü&="), tags=("db",), excluded_tags=("slow", "x y"))
    stub.request(Reply(body=content()), selection=selection, failfast=True, token=TOKEN)
    ((path, headers),) = stub.seen
    assert parse_qs(urlsplit(path).query) == {
        "test": ["a.b", "ü&="],
        "tag": ["db"],
        "exclude_tag": ["slow", "x y"],
        "failfast": ["1"],
    }
    assert headers["Authorization"] == f"Bearer {TOKEN}"


# Reports


def test_report__passed(stub: StubServer) -> None:
    """The report carries the selection of the request and the release of the site."""
    selection = Selection(tags=("db",))
    answer = stub.request(Reply(body=content(release="v42", duration=0.01)), selection=selection)
    assert answer.report.passed
    assert answer.report.selection == selection
    assert answer.report.release == "v42"
    assert answer.age == 0
    assert answer.pause is None


def test_report__failed(stub: StubServer) -> None:
    """A 500 response with a report is returned as a report."""
    result = make_result(Outcome.FAILED, message="1 != 2")
    answer = stub.request(Reply(500, content(result)))
    assert [one.message for one in answer.report.problems] == ["1 != 2"]


def test_report__warning(stub: StubServer) -> None:
    declaration = make_declaration(severity=Severity.WARNING)
    answer = stub.request(Reply(body=content(make_result(Outcome.FAILED, declaration))))
    assert answer.report.passed
    assert len(answer.report.warnings) == 1


@pytest.mark.parametrize(
    ("age", "duration"), [(3600, 0.1), (0, 3600), (0.1, 0)], ids=["old", "long", "just before"]
)
@pytest.mark.usefixtures("clock")
def test_report__run_started_before_request(stub: StubServer, age: float, duration: float) -> None:
    """A run that started before the request, such as a cached one, is rejected."""
    message = no_answer(lambda: stub.request(Reply(body=content(age=age, duration=duration))))
    assert message == f"{stub.url} returned a run that started before the request."


def test_report__slow_run(stub: StubServer) -> None:
    """A run that took as long as the request is accepted."""
    answer = stub.request(Reply(body=content(age=0.1, duration=0.4), after=0.5))
    assert answer.report.duration == 0.4


def test_report__paused(stub: StubServer) -> None:
    """A stored report from before a pause is rejected."""
    report = make_report(make_result())
    pause = Pause(until=1_769_950_800.0, reason="moving the database")
    body = render(make_answer(report, pause=pause), with_tracebacks=False)
    message = no_answer(lambda: stub.request(Reply(body=body)))
    assert "are paused until 2026-02-01T13:00:00.000+00:00 (moving the database)" in message


def test_report__nothing_matches(stub: StubServer) -> None:
    """The error message of the site, with its suggestions, is passed on."""
    body = json.dumps({"error": "No smoke test matches tag db."})
    with pytest.raises(NothingMatchesError, match=r"^No smoke test matches tag db\.$"):
        stub.request(Reply(404, body))


def test_report__bad_request(stub: StubServer) -> None:
    body = json.dumps({"error": "Unknown parameter 'failfast'."})
    message = refused(lambda: stub.request(Reply(400, body)))
    assert message == f"{stub.url} returned 400: Unknown parameter 'failfast'."


def test_report__busy(stub: StubServer, clock: Clock) -> None:
    """A 503 response with Retry-After is retried within the timeout."""
    busy = Reply(503, json.dumps({"error": "Busy."}), {"Retry-After": "1"})
    answer = stub.request(busy, Reply(body=content()))
    assert answer.report.passed
    assert clock.sleeps == [1]
    assert len(stub.seen) == 2


def test_report__busy_beyond_timeout(stub: StubServer, clock: Clock) -> None:
    """A retry that would exceed the timeout is not attempted."""
    busy = Reply(503, json.dumps({"error": "Busy."}), {"Retry-After": "60"})
    message = no_answer(lambda: stub.request(busy, timeout=100), is_timeout=True)
    assert message == f"{stub.url} returned 503: Busy."
    assert clock.sleeps == [60]
    assert len(stub.seen) == 2


def test_report__retry_after_too_long(stub: StubServer) -> None:
    """A response whose Retry-After exceeds the timeout is not retried."""
    busy = Reply(503, json.dumps({"error": "Paused."}), {"Retry-After": "1800"})
    assert "returned 503: Paused." in no_answer(lambda: stub.request(busy))
    assert len(stub.seen) == 1


# Errors


@pytest.mark.parametrize("status", [401, 403])
def test_token(stub: StubServer, status: int) -> None:
    """A missing or invalid token is a permanent error, and the token is not in the message."""
    message = refused(lambda: stub.request(Reply(status, "No.")))
    assert message.startswith(f"{stub.url} returned {status}: the token is missing. Set the env")
    message = refused(lambda: stub.request(Reply(status, "No."), token=TOKEN))
    assert "the token is not one of its SMOKETEST_TOKENS" in message
    assert TOKEN not in message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("header", ["Location", "location"])
def test_redirect(stub: StubServer, status: int, header: str) -> None:
    """A redirect is not followed, so that the token is not sent elsewhere; the message shows it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.05)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/"
        message = refused(
            lambda: stub.request(Reply(status, headers={header: address}), token=TOKEN)
        )
        with pytest.raises(TimeoutError):
            other.accept()
    assert f"{stub.url} redirects to {address}. Use the URL of the smoke tests" in message


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(404, "<h1>Not Found</h1>"), "returned 404: there are no smoke tests at this URL."),
        (Reply(500, "<h1>Server\nError</h1>"), "returned 500: <h1>Server Error</h1>"),
        (Reply(502, "Bad Gateway"), "returned 502: Bad Gateway"),
        (Reply(503, "Later", {"Retry-After": "Sun, 22 Nov 2026 12:00:00 GMT"}), "503: Later"),
        (Reply(200, "<h1>Welcome</h1>"), "returned 200: <h1>Welcome</h1>"),
        (Reply(200, '{"hello": "world"}'), 'returned 200: {"hello": "world"}'),
        (Reply(200, "[1, 2]"), "returned 200: [1, 2]"),
        (Reply(200, ""), "returned 200: "),
        (Reply(204, ""), "returned 204: "),
        (Reply(200, b"\xff\xfe\x00"), "returned 200: \ufffd\ufffd\\x00"),
    ],
)
def test_unexpected_response(stub: StubServer, reply: Reply, expected: str) -> None:
    """An unexpected response, common during a deployment, can be retried."""
    assert expected in no_answer(lambda: stub.request(reply))


def test_unexpected_response__is_truncated(stub: StubServer) -> None:
    message = no_answer(lambda: stub.request(Reply(500, "x" * 10_000)))
    assert message == f"{stub.url} returned 500: {'x' * remote.SHOWN}…"


def test_version_1(stub: StubServer) -> None:
    """A response of django-smoketest 1.x is a permanent error, because it has no results."""
    body = json.dumps({"status": "PASS", "test_classes": 1, "tests_run": 1, "time": 3.2})
    message = refused(lambda: stub.request(Reply(body=body)))
    assert message.startswith(f"The response of {stub.url} is not a report of django-smoketest 2")


def test_huge_response(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is read only up to a limit."""
    monkeypatch.setattr(remote, "GREATEST_ANSWER", 100_000)
    message = no_answer(lambda: stub.request(Reply(body=content(release="x" * 5_000_000))))
    assert 'returned 200: {"status": "PASS"' in message


@pytest.mark.parametrize("status", [200, 500])
def test_truncated_response(stub: StubServer, status: int) -> None:
    """A connection that closes in the middle of the body is an error that can be retried."""
    whole = content()
    reply = Reply(status, whole[: len(whole) // 2], missing=len(whole) // 2)
    assert stub.url in no_answer(lambda: stub.request(reply))


def test_no_response(stub: StubServer) -> None:
    """A site that never responds is an error after the timeout."""
    began = time.monotonic()
    message = no_answer(lambda: stub.request(Reply(after=60), timeout=0.3), is_timeout=True)
    assert re.fullmatch(rf"{stub.url} did not respond within 0\.[23]\d* s\.", message)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_response__no_time_left(stub: StubServer, timeout: float) -> None:
    """A timeout of 0 or less, as at the end of a deadline, fails at once."""
    no_answer(lambda: stub.request(Reply(after=60), timeout=timeout), is_timeout=True)


@pytest.mark.parametrize("status", [200, 500])
def test_no_response__slow_body(stub: StubServer, status: int) -> None:
    """A body that arrives one byte at a time does not extend the timeout."""
    began = time.monotonic()
    reply = Reply(status, "x" * 600, drip=0.1)
    no_answer(lambda: stub.request(reply, timeout=0.5), is_timeout=True)
    assert time.monotonic() - began < 30


def test_no_response__late_and_slow(stub: StubServer) -> None:
    """The timeout includes the headers and the body."""
    body = content()
    reply = Reply(body=body, after=2, drip=2.5 / len(body))
    message = no_answer(lambda: stub.request(reply, timeout=3), is_timeout=True)
    assert message == f"{stub.url} did not respond within 3 s."


def test_no_response__slow_headers() -> None:
    """The headers arrive byte by byte, so that no read times out."""
    head = f"HTTP/1.1 200 OK\r\nX-Slow: {'x' * 80}\r\nContent-Length: "

    def answer(connection: socket.socket) -> None:
        request_of(connection)
        body = content()
        for byte in f"{head}{len(body)}\r\n\r\n".encode():
            connection.sendall(bytes([byte]))
            time.sleep(0.03)
        connection.sendall(body.encode())

    with listening(answer) as port:
        site = RemoteSite(url=f"http://127.0.0.1:{port}/")
        no_answer(lambda: site.run(EVERYTHING, failfast=False, timeout=1), is_timeout=True)


def test_connection_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    site = RemoteSite(url=url)
    message = no_answer(lambda: site.run(EVERYTHING, failfast=False, timeout=60))
    assert message == f"{url} cannot be reached: [Errno 111] Connection refused"


def test_not_http() -> None:
    """A response of another protocol is reported."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = Thread(target=answer)
        thread.start()
        site = RemoteSite(url=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        message = no_answer(lambda: site.run(EVERYTHING, failfast=False, timeout=60))
        thread.join()
    assert "cannot be reached: SSH-2.0" in message


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example/smoketest/", "https://shop.example/smoketest/"),
        ("https://shop.example/smoketest", "https://shop.example/smoketest/"),
        ("http://shop.example", "http://shop.example/"),
        ("http://[::1]:8000/x/", "http://[::1]:8000/x/"),
        ("HTTPS://shop.example/", "HTTPS://shop.example/"),
    ],
)
def test_check_url(url: str, expected: str) -> None:
    """The trailing slash of the URL is optional."""
    assert check_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("shop.example/smoketest/", "is not a valid URL; use that of the smoke test page, such as"),
        ("file:///etc/passwd", "is not a valid URL"),
        ("ftp://shop.example/", "is not a valid URL"),
        ("https://", "is not a valid URL"),
        ("https://shop.example:port/", "is not a valid URL"),
        ("https://shop.example:99999/", "is not a valid URL"),
        ("http://[::1/", "is not a valid URL"),
        ("https://shop.example/?test=a", "and select tests with options"),
        ("https://shop.example/#top", "is not a valid URL"),
        ("https://user:hunter2@shop.example/", "the URL contains a password, which messages would"),
        ("https://shop.example/ä/", "contains spaces or non-ASCII char"),
        ("https://shop.example/a b/", "contains spaces or non-ASCII char"),
        ("https://shop.example/\n", "contains spaces or non-ASCII char"),
        ("", "is not a valid URL"),
    ],
)
def test_check_url__refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as failure:
        check_url(url)
    assert message in str(failure.value)
    assert "hunter2" not in str(failure.value)


# A deployed site


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    with ExampleSite(gunicorn(workers=4)) as site:
        yield site


def request(site: ExampleSite, selection: Selection = EVERYTHING) -> Answer:
    url = check_url(f"http://{site.address}/smoketest")
    return RemoteSite(url=url).run(selection, failfast=False, timeout=120)


@pytest.mark.e2e
def test_site(site: ExampleSite) -> None:
    """Each request starts a new run of all tests or of the selection."""
    first, second = request(site), request(site)
    assert first.report.passed
    assert len(first.report.results) > 5
    assert second.report.started_at > first.report.finished_at
    assert first.report.release == "example"
    ids = [result.id for result in first.report.results]
    one = request(site, Selection(names=(ids[0],))).report
    assert [result.id for result in one.results] == [ids[0]]


@pytest.mark.e2e
def test_site__fails(site: ExampleSite) -> None:
    """A test that fails is reported at once, regardless of earlier stored results."""
    assert request(site).report.passed
    site.break_("orders")
    try:
        report = request(site).report
    finally:
        site.repair()
    assert not report.passed
    assert any("orders" in result.id and result.message for result in report.problems)
    assert request(site).report.passed


@pytest.mark.e2e
def test_site__nothing_matches(site: ExampleSite) -> None:
    with pytest.raises(NothingMatchesError, match=r"No smoke test matches test orders\.smoke\.T"):
        request(site, Selection(names=("orders.smoke.T",)))


@pytest.mark.e2e
def test_site__concurrent_requests(site: ExampleSite) -> None:
    """Requests that the site rejects with 503 are retried, and all succeed."""
    answers: list[Answer] = []
    threads = [Thread(target=lambda: answers.append(request(site))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(answer.report.passed for answer in answers)


@pytest.mark.e2e
def test_site__paused(site: ExampleSite) -> None:
    """The reason for a pause is reported."""
    site.manage("smoketest", "--pause", "1h", "--reason", "moving the database")
    try:
        assert "(moving the database)" in no_answer(lambda: request(site))
    finally:
        site.manage("smoketest", "--resume")
    assert request(site).report.passed


@pytest.mark.e2e
def test_site__wrong_path(site: ExampleSite) -> None:
    """Another page of the site is not accepted as a report."""
    url = f"http://{site.address}/"
    other = RemoteSite(url=url)
    message = no_answer(lambda: other.run(EVERYTHING, failfast=False, timeout=60))
    assert message.startswith(f"{url} returned 200: <")


def test_no_response__nested_too_deeply(stub: StubServer) -> None:
    message = no_answer(lambda: stub.request(Reply(body="[" * 2_000_000)))
    assert message.startswith(f"{stub.url} returned 200: [[[")
    assert len(message) < 400


@pytest.mark.parametrize("is_json", [False, True])
def test_no_response__control_characters(stub: StubServer, is_json: bool) -> None:
    """A site cannot control the terminal of the command."""
    text = "gone\x1b[2J\u202eevil"
    body = json.dumps({"error": text}) if is_json else text
    message = no_answer(lambda: stub.request(Reply(status=502, body=body)))
    assert message == rf"{stub.url} returned 502: gone\x1b[2J\u202eevil"
