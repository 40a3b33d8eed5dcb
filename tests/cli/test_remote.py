"""A deployed site is asked for a run: real ones, and peers whose answers are none of ours."""

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

EVERYTHING = Selection()
TOKEN = "nothing-but-a-test-token"


@dataclass
class Reply:
    """What a peer answers: these bytes, after a while, and piece by piece."""

    status: int = 200
    body: str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0
    #: Seconds before each byte.
    drip: float = 0.0
    #: Bytes that are promised and never come.
    missing: int = 0


@dataclass
class Peer:
    """A server that gives the replies one after the other, the last one for ever."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    #: Path and headers of each request.
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Ends all delays.
    is_over: Event = field(default_factory=Event)

    def ask(
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
def peer() -> Iterator[Peer]:
    peer = Peer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer.seen.append((self.path, dict(self.headers.items())))
            reply = peer.replies.pop(0) if len(peer.replies) > 1 else peer.replies[0]
            peer.is_over.wait(reply.after)
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
                    peer.is_over.wait(reply.drip)
                    self.wfile.write(bytes([byte]))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        peer.url = f"http://127.0.0.1:{server.server_port}/smoketest/"
        yield peer
        peer.is_over.set()
        server.shutdown()
        thread.join()


@dataclass
class Clock:
    """The `time` module of a client. It stands still, except for the sleeps of the client."""

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


def refused(ask: Callable[[], Answer]) -> str:
    with pytest.raises(RefusedError) as refusal:
        ask()
    return str(refusal.value)


def no_answer(ask: Callable[[], Answer], *, is_timeout: bool = False) -> str:
    with pytest.raises(NoAnswerError) as failure:
        ask()
    assert failure.value.is_timeout is is_timeout
    return str(failure.value)


# The question


def test_question(peer: Peer) -> None:
    """A run that begins after the call, as JSON; everything and without a token."""
    peer.ask(Reply(body=content()))
    ((path, headers),) = peer.seen
    assert path == "/smoketest/"
    assert headers["Accept"] == "application/json"
    assert headers["Cache-Control"] == "no-cache"
    assert "Authorization" not in headers


def test_question__selection(peer: Peer) -> None:
    """The names and tags are parameters, whatever characters they have."""
    selection = Selection(names=("a.b", "ü&="), tags=("db",), excluded_tags=("slow", "x y"))
    peer.ask(Reply(body=content()), selection=selection, failfast=True, token=TOKEN)
    ((path, headers),) = peer.seen
    assert parse_qs(urlsplit(path).query) == {
        "test": ["a.b", "ü&="],
        "tag": ["db"],
        "exclude_tag": ["slow", "x y"],
        "failfast": ["1"],
    }
    assert headers["Authorization"] == f"Bearer {TOKEN}"


# Answers of ours


def test_answer__passed(peer: Peer) -> None:
    """The report that the site made, with the selection that it was asked for."""
    selection = Selection(tags=("db",))
    answer = peer.ask(Reply(body=content(release="v42", duration=0.01)), selection=selection)
    assert answer.report.passed
    assert answer.report.selection == selection
    assert answer.report.release == "v42"
    assert answer.age == 0
    assert answer.pause is None


def test_answer__failed(peer: Peer) -> None:
    """A FAIL is an answer as good as a PASS."""
    result = make_result(Outcome.FAILED, message="1 != 2")
    answer = peer.ask(Reply(500, content(result)))
    assert [one.message for one in answer.report.problems] == ["1 != 2"]


def test_answer__warning(peer: Peer) -> None:
    declaration = make_declaration(severity=Severity.WARNING)
    answer = peer.ask(Reply(body=content(make_result(Outcome.FAILED, declaration))))
    assert answer.report.passed
    assert len(answer.report.warnings) == 1


@pytest.mark.parametrize(
    ("age", "duration"), [(3600, 0.1), (0, 3600), (0.1, 0)], ids=["old", "long", "just before"]
)
@pytest.mark.usefixtures("clock")
def test_answer__of_a_run_that_began_before(peer: Peer, age: float, duration: float) -> None:
    """Such a run, which a cache may hold, says nothing of what was deployed since."""
    message = no_answer(lambda: peer.ask(Reply(body=content(age=age, duration=duration))))
    assert message == f"{peer.url} returned a run that started before the request."


def test_answer__of_a_run_that_took_its_time(peer: Peer) -> None:
    """The whole time of the call may have been the run's."""
    answer = peer.ask(Reply(body=content(age=0.1, duration=0.4), after=0.5))
    assert answer.report.duration == 0.4


def test_answer__paused(peer: Peer) -> None:
    """A PASS from before the pause is no answer."""
    report = make_report(make_result())
    pause = Pause(until=1_769_950_800.0, reason="moving the database")
    body = render(make_answer(report, pause=pause), with_tracebacks=False)
    message = no_answer(lambda: peer.ask(Reply(body=body)))
    assert "are paused until 2026-02-01T13:00:00.000+00:00 (moving the database)" in message


def test_answer__nothing_matches(peer: Peer) -> None:
    """What the site says of it, with its suggestions."""
    body = json.dumps({"error": "No smoke test matches tag db."})
    with pytest.raises(NothingMatchesError, match=r"^No smoke test matches tag db\.$"):
        peer.ask(Reply(404, body))


def test_answer__wrong_question(peer: Peer) -> None:
    body = json.dumps({"error": "Unknown parameter 'failfast'."})
    message = refused(lambda: peer.ask(Reply(400, body)))
    assert message == f"{peer.url} returned 400: Unknown parameter 'failfast'."


def test_answer__busy(peer: Peer, clock: Clock) -> None:
    """It is asked again when it says so, within the time."""
    busy = Reply(503, json.dumps({"error": "Busy."}), {"Retry-After": "1"})
    answer = peer.ask(busy, Reply(body=content()))
    assert answer.report.passed
    assert clock.sleeps == [1]
    assert len(peer.seen) == 2


def test_answer__busy_for_too_long(peer: Peer, clock: Clock) -> None:
    """The time is kept."""
    busy = Reply(503, json.dumps({"error": "Busy."}), {"Retry-After": "60"})
    message = no_answer(lambda: peer.ask(busy, timeout=100), is_timeout=True)
    assert message == f"{peer.url} returned 503: Busy."
    assert clock.sleeps == [60]
    assert len(peer.seen) == 2


def test_answer__not_for_long(peer: Peer) -> None:
    """A site that will not answer within the time, such as a paused one, is not waited for."""
    busy = Reply(503, json.dumps({"error": "Paused."}), {"Retry-After": "1800"})
    assert "returned 503: Paused." in no_answer(lambda: peer.ask(busy))
    assert len(peer.seen) == 1


# Other answers


@pytest.mark.parametrize("status", [401, 403])
def test_token(peer: Peer, status: int) -> None:
    """A token that is missing, or wrong, will be so the next time; it is in no message."""
    message = refused(lambda: peer.ask(Reply(status, "No.")))
    assert message.startswith(f"{peer.url} returned {status}: the token is missing. Set the env")
    message = refused(lambda: peer.ask(Reply(status, "No."), token=TOKEN))
    assert "the token is not one of its SMOKETEST_TOKENS" in message
    assert TOKEN not in message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("header", ["Location", "location"])
def test_redirect(peer: Peer, status: int, header: str) -> None:
    """It is not followed, so that nobody else gets the token; the message says where it leads."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.05)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/"
        message = refused(lambda: peer.ask(Reply(status, headers={header: address}), token=TOKEN))
        with pytest.raises(TimeoutError):
            other.accept()
    assert f"{peer.url} redirects to {address}. Use the URL of the smoke tests" in message


@pytest.mark.parametrize(
    ("reply", "said"),
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
        (Reply(200, b"\xff\xfe\x00"), "returned 200: \ufffd\ufffd\x00"),
    ],
)
def test_something_else(peer: Peer, reply: Reply, said: str) -> None:
    """What may be there while a site is being deployed: asking again may help."""
    assert said in no_answer(lambda: peer.ask(reply))


def test_something_else__is_shown_in_part(peer: Peer) -> None:
    message = no_answer(lambda: peer.ask(Reply(500, "x" * 10_000)))
    assert message == f"{peer.url} returned 500: {'x' * remote.SHOWN}…"


def test_first_version(peer: Peer) -> None:
    """django-smoketest 1.x has no results to tell of: it cannot be asked at all."""
    body = json.dumps({"status": "PASS", "test_classes": 1, "tests_run": 1, "time": 3.2})
    message = refused(lambda: peer.ask(Reply(body=body)))
    assert message.startswith(f"The response of {peer.url} is not a report of django-smoketest 2")


def test_huge(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so much is read."""
    monkeypatch.setattr(remote, "GREATEST_ANSWER", 100_000)
    message = no_answer(lambda: peer.ask(Reply(body=content(release="x" * 5_000_000))))
    assert 'returned 200: {"status": "PASS"' in message


@pytest.mark.parametrize("status", [200, 500])
def test_cut_in_the_middle(peer: Peer, status: int) -> None:
    """A connection that breaks off, as when the site is restarted."""
    whole = content()
    reply = Reply(status, whole[: len(whole) // 2], missing=len(whole) // 2)
    assert peer.url in no_answer(lambda: peer.ask(reply))


def test_never(peer: Peer) -> None:
    """A site that never answers is given up on in time."""
    began = time.monotonic()
    message = no_answer(lambda: peer.ask(Reply(after=60), timeout=0.3), is_timeout=True)
    assert re.fullmatch(rf"{peer.url} did not respond within 0\.[23]\d* s\.", message)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("timeout", [0, -1])
def test_never__time_is_over(peer: Peer, timeout: float) -> None:
    """As at the end of a deadline, or of a wait for a site that was busy."""
    no_answer(lambda: peer.ask(Reply(after=60), timeout=timeout), is_timeout=True)


@pytest.mark.parametrize("status", [200, 500])
def test_never__ends(peer: Peer, status: int) -> None:
    """Nor is one waited for that answers a byte at a time."""
    began = time.monotonic()
    reply = Reply(status, "x" * 600, drip=0.1)
    no_answer(lambda: peer.ask(reply, timeout=0.5), is_timeout=True)
    assert time.monotonic() - began < 30


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    site = RemoteSite(url=url)
    message = no_answer(lambda: site.run(EVERYTHING, failfast=False, timeout=60))
    assert message == f"{url} cannot be reached: [Errno 111] Connection refused"


def test_no_http() -> None:
    """Something that speaks another protocol."""
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


# Addresses


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
    """An address of a page, whose last slash may be left out."""
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
    with pytest.raises(ValueError, match=r".") as refusal:
        check_url(url)
    assert message in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


# A real site


@pytest.fixture(scope="module")
def site() -> Iterator[ExampleSite]:
    with ExampleSite(gunicorn(workers=4)) as site:
        yield site


def ask(site: ExampleSite, selection: Selection = EVERYTHING) -> Answer:
    url = check_url(f"http://{site.address}/smoketest")
    return RemoteSite(url=url).run(selection, failfast=False, timeout=120)


@pytest.mark.e2e
def test_site(site: ExampleSite) -> None:
    """Each answer is a new run of the whole site, or of what was selected."""
    first, second = ask(site), ask(site)
    assert first.report.passed
    assert len(first.report.results) > 5
    assert second.report.started_at > first.report.finished_at
    assert first.report.release == "example"
    ids = [result.id for result in first.report.results]
    one = ask(site, Selection(names=(ids[0],))).report
    assert [result.id for result in one.results] == [ids[0]]


@pytest.mark.e2e
def test_site__fails(site: ExampleSite) -> None:
    """What broke after the last run is seen at once, whatever the site has stored."""
    assert ask(site).report.passed
    site.break_("orders")
    try:
        report = ask(site).report
    finally:
        site.mend()
    assert not report.passed
    assert any("orders" in result.id and result.message for result in report.problems)
    assert ask(site).report.passed


@pytest.mark.e2e
def test_site__nothing_matches(site: ExampleSite) -> None:
    with pytest.raises(NothingMatchesError, match=r"No smoke test matches test orders\.smoke\.T"):
        ask(site, Selection(names=("orders.smoke.T",)))


@pytest.mark.e2e
def test_site__many_ask_at_once(site: ExampleSite) -> None:
    """More than may wait there: those that are sent away ask again, and all get their answer."""
    answers: list[Answer] = []
    threads = [Thread(target=lambda: answers.append(ask(site))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(answer.report.passed for answer in answers)


@pytest.mark.e2e
def test_site__paused(site: ExampleSite) -> None:
    """Its operator said so, for the reason that is told."""
    site.manage("smoketest", "--pause", "1h", "--reason", "moving the database")
    try:
        assert "(moving the database)" in no_answer(lambda: ask(site))
    finally:
        site.manage("smoketest", "--resume")
    assert ask(site).report.passed


@pytest.mark.e2e
def test_site__other_address(site: ExampleSite) -> None:
    """A page of the site that is none of ours."""
    url = f"http://{site.address}/"
    other = RemoteSite(url=url)
    message = no_answer(lambda: other.run(EVERYTHING, failfast=False, timeout=60))
    assert message.startswith(f"{url} returned 200: <")
