"""Tests of smoketest.contrib.http: each test passes, and fails for each reason."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from smoketest.contrib.http.checks import OLDEST_CLIENT
from smoketest.contrib.http.expectations import MAX_BODY, NoResponseError
from smoketest.contrib.http.fetching import fetch
from smoketest.contrib.http.targets import InvalidEntryError, parse, redact_url, show_url
from smoketest.results import Report, Result
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, options
from tests.ledger.models import Account
from tests.servers.processes import free_port
from tests.servers.tls import (
    Authority,
    dripping,
    dripping_records,
    http,
    listening,
    request_of,
    respond_with,
    self_signed,
)

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

JSON = json.dumps({"status": "ok", "queue": {"depth": 0, "names": ["a"]}, "up": True}).encode()

RunHttp = Callable[..., Report]


# The site under test


def home(_: HttpRequest) -> HttpResponse:
    Account.objects.create(name="visitor")
    return HttpResponse("Welcome to the shop", headers={"X-Shop": "open"})


def fail(_: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("the page is at fault")


def echo(request: HttpRequest) -> HttpResponse:
    assert not isinstance(request, ASGIRequest)
    text = f"{request.method} {request.content_type} {request.headers.get('X-Key')} "
    return HttpResponse(text.encode() + request.body)


def slow(_: HttpRequest) -> HttpResponse:
    time.sleep(0.2)
    return HttpResponse("slow")


def endless(_: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        yield b"begin"
        while True:
            time.sleep(0.01)
            yield b"x"

    return StreamingHttpResponse(chunks())


async def endless_async(_: HttpRequest) -> StreamingHttpResponse:
    async def chunks() -> Any:
        yield b"begin"
        while True:
            yield b"x" * 100_000

    return StreamingHttpResponse(chunks())


def track(_: HttpRequest) -> HttpResponse:
    response = HttpResponse("tracked")
    response.set_cookie("lang", "en")
    response.set_cookie("tracker", "1")
    return response


def redirect(to: str) -> Callable[[HttpRequest], HttpResponse]:
    return lambda _: HttpResponseRedirect(to)


def redirect_to_invalid_url(_: HttpRequest) -> HttpResponse:
    headers = {"Location": "http://me:secret@[shop.example/?token=secret"}
    return HttpResponse(status=302, headers=headers)


URLS = (
    path("", home),
    path("fail/", fail),
    path("echo/", echo),
    path("slow/", slow),
    path("endless/", endless),
    path("endless-async/", endless_async),
    path("track/", track),
    path("old/", redirect("/")),
    path("alt/", redirect("/größe/#oben")),
    path("größe/", home),
    path("older/", redirect("http://shop.example/old/")),
    path("circle/", redirect("/circle/")),
    path("away/", redirect("https://other.example/login?token=secret")),
    path("secure/", redirect("https://shop.example/secure/?token=secret")),
    path("plain/", redirect("http://shop.example/plain/")),
    path("port/", redirect("http://shop.example:8000/")),
    path("usual-port/", redirect("http://shop.example:80/old/")),
    path("brackets/", redirect_to_invalid_url),
)

APP = "smoketest.contrib.http"
APPS = ["smoketest", "tests.ledger", APP]


@pytest.fixture
def run_http(tmp_path: Path) -> Iterator[RunHttp]:
    """Run the tests of these entries."""

    def run_checked(*entries: Any, **settings: Any) -> Report:
        sys.modules.pop(f"{APP}.smoke", None)
        with override_settings(
            INSTALLED_APPS=APPS,
            ROOT_URLCONF=URLS,
            ALLOWED_HOSTS=["shop.example"],
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
            SMOKETEST_HTTP_CHECKS=list(entries),
            SMOKETEST_STATE_DIR=str(tmp_path / "state"),
            **{"SMOKETEST_TIMEOUT": 60, **settings},
        ):
            return run(
                find(EVERYTHING, options()),
                EVERYTHING,
                options(),
                abandoned=LocallyAbandoned(),
                carried={},
            )

    yield run_checked
    sys.modules.pop(f"{APP}.smoke", None)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def only(report: Report, name: str = "test_answers") -> Result:
    (result,) = (r for r in report.results if r.id.endswith(name))
    return result


def assert_passed(report: Report) -> None:
    assert [(r.outcome, r.message) for r in report.results] == [("passed", "")] * len(
        report.results
    )
    assert report.results


# Paths of this site


@pytest.mark.parametrize(
    "entry",
    [
        "/",
        "/?page=2",
        {"url": "/", "status": 200, "text": "Welcome"},
        {"url": "/", "text": ["Welcome", re.compile("sh.p")], "no_text": ["Error", "closed"]},
        {"url": "/", "response_headers": {"x-shop": "open", "X-Debug": None}},
        {"url": "/track/", "response_headers": {"Set-Cookie": "lang=en"}},
        {"url": "/track/", "response_headers": {"Set-Cookie": "tracker=1"}},
        {"url": "/", "response_headers": {"Set-Cookie": None}},
        {"url": "/nowhere/", "status": 404},
        {"url": "/nowhere/", "status": ["2xx", "4xx"]},
        {"url": "/fail/", "status": 500},
        {"url": "/old/", "redirect": "/"},
        {"url": "/old/", "redirect": "http://shop.example/", "status": 302},
        {"url": "/alt/", "redirect": "/größe/#oben"},
        {"url": "/alt/", "follow": True, "redirect": "/größe/", "text": "Welcome"},
        {"url": "/older/", "follow": True, "redirect": "/", "text": "Welcome"},
        {"url": "/usual-port/", "follow": True, "redirect": "/", "text": "Welcome"},
        {"url": "/away/", "redirect": "https://other.example/login?token=secret"},
        {
            "url": "/echo/", "method": "post", "headers": {"X-Key": "k"}, "body": {"a": 1},
            "text": 'POST application/json k {"a": 1}',
        },
        {"url": "/endless-async/", "text": "begin"},
        {"url": "/slow/", "max_time": 50},
        {"url": "/", "method": "HEAD"},
    ],
)  # fmt: skip
def test_page__passes(run_http: RunHttp, entry: Any) -> None:
    assert_passed(run_http(entry))
    assert not Account.objects.exists()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "/nowhere/",
            r"GET /nowhere/: the status is 404, not 200-299; the body starts with '<!doctype",
        ),
        ({"url": "/", "status": [404, "5xx"]}, r"GET /: the status is 200, not 404 or 500-599"),
        ({"url": "/", "text": "Goodbye"}, "'Goodbye' is not in the body; the body starts with"),
        ({"url": "/", "text": re.compile("G.*bye")}, r"/G.\*bye/ is not in the body"),
        ({"url": "/", "no_text": "shop"}, r"GET /: 'shop' is in the body$"),
        (
            {"url": "/", "response_headers": {"X-Shop": "closed"}},
            "X-Shop is 'open'; it does not contain",
        ),
        ({"url": "/", "response_headers": {"X-Shop": None}}, "the response has a header X-Shop"),
        ({"url": "/", "response_headers": {"X-Other": "a"}}, "the response has no header X-Other"),
        (
            {"url": "/track/", "response_headers": {"set-cookie": None}},
            "the response has a header set-cookie",
        ),
        (
            {"url": "/track/", "response_headers": {"Set-Cookie": "session"}},
            r"the header Set-Cookie is .*lang=en.*tracker=1.*; it does not contain 'session'",
        ),
        (
            {"url": "/", "json": {"status": "ok"}},
            "the body is not valid JSON; the body starts with",
        ),
        ("/old/", r"the status is 302 and redirects to /, not 200-299"),
        (
            {"url": "/old/", "redirect": "/new/"},
            "it redirects to http://shop.example/, not to http://shop.example/new/$",
        ),
        ({"url": "/", "redirect": "/new/"}, "the status is 200, not 301-303 or 307-308"),
        (
            {"url": "/old/", "follow": True, "redirect": "/other/"},
            "the last redirect leads to http://shop.example/, not to http://shop.example/other/",
        ),
        ({"url": "/circle/", "follow": True}, "more than 10 redirects: http://shop.example/circ"),
        (
            {"url": "/away/", "follow": True},
            r"redirects to https://other\.example/login\?\.\.\. on another host, which is not foll",
        ),
        (
            {"url": "/secure/", "follow": True},
            r"redirects to https://shop\.example/secure/\?\.\.\. on the same host, but over HTTPS,",
        ),
        (
            {"url": "/port/", "follow": True},
            r"redirects to http://shop\.example:8000/ on another port of the same host, which",
        ),
        (
            {"url": "/brackets/", "follow": True},
            r"GET /brackets/: it redirects to an invalid URL: '\[shop\.example/'$",
        ),
        (
            {"url": "/brackets/"},
            r"the status is 302 and redirects to \[shop\.example/, not 200-299",
        ),
        (
            {"url": "/slow/", "max_time": 0.1},
            r"it took (?!0\.[01])\d+\.\d\d s, which is more than 0\.1 s$",
        ),
    ],
)
def test_page__fails(run_http: RunHttp, entry: Any, message: str) -> None:
    result = only(run_http(entry))
    assert result.outcome == "failed"
    assert re.search(message, result.message), result.message


def test_redirect__query(run_http: RunHttp) -> None:
    """The query of the target counts only if one is expected."""
    assert_passed(run_http({"url": "/away/", "redirect": "https://other.example/login"}))
    expected = "https://other.example/login?next=/other/"
    message = only(run_http({"url": "/away/", "redirect": expected})).message
    assert "it redirects to https://other.example/login?token=" in message
    assert message.endswith(f", not to {expected}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host/a?next=/b/&page=2", "https://host/a?next=/b/&page=2"),
        ("https://host/a?code=123&state=4&x=1", "https://host/a?code=...&state=...&x=1"),
        ("https://host/a?access_token=1", "https://host/a?access_token=..."),
        ("https://host/a?123", "https://host/a?..."),
        ("https://host/a", "https://host/a"),
    ],
)
def test_show_url(url: str, shown: str) -> None:
    assert show_url(url) == shown


def test_redirect_from_https(run_http: RunHttp) -> None:
    """A redirect between HTTP and HTTPS leaves the origin, but not the host."""
    message = only(run_http({"url": "/secure/", "follow": True})).message
    assert "If the whole site uses HTTPS, set SMOKETEST_PUBLIC_URL to its https:// URL." in message
    settings = {"SMOKETEST_PUBLIC_URL": "https://shop.example"}
    result = only(run_http({"url": "/plain/", "follow": True}, **settings))
    assert "http://shop.example/plain/ on the same host, but over HTTP, which" in result.message
    assert result.message.endswith(
        "Set 'redirect' without 'follow', and add an entry for that URL."
    )
    report = run_http({"url": "/secure/", "redirect": "/secure/?token=secret"}, **settings)
    assert_passed(report)


@pytest.fixture
def time_limit(monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the time limit for requests of a test whose timeout is 60 s, in seconds.

    This is long enough to send the request and leaves the test enough time to end.
    """
    monkeypatch.setattr("smoketest.contrib.http.cases.TIME_SHARE", 1.5 / 60)
    return 1.5


@pytest.mark.usefixtures("time_limit")
def test_page__endless(run_http: RunHttp) -> None:
    """The part of the body that was received in time is checked."""
    entry = {"url": "/endless/", "timeout": 60}
    report = run_http({**entry, "text": "begin"}, {**entry, "json": {}})
    passed, failed = report.results
    assert (passed.outcome, passed.message) == ("passed", "")
    assert failed.outcome == "failed"
    assert "bytes and is not parsed as JSON" in failed.message


def test_page__exception(run_http: RunHttp) -> None:
    """An unexpected exception of the view is shown."""
    result = only(run_http("/fail/"))
    assert (result.outcome, result.message) == ("errored", "the page is at fault")
    assert "in fail" in result.traceback


# Other servers


def short_id(value: object) -> str | None:
    """Return a short id for a response, or None for the default of pytest."""
    return repr(value[:40]) if isinstance(value, bytes) else None


def over_http(run_http: RunHttp, response: bytes, **entry: Any) -> Report:
    with listening(respond_with(response)) as port:
        return run_http({"url": f"http://127.0.0.1:{port}/health", "name": "partner", **entry})


@pytest.mark.parametrize(
    ("response", "entry"),
    [
        (http(), {}),
        (http(body=JSON), {"json": {}}),
        (http(body=JSON), {"json": {"status": "ok", "queue.depth": 0, "queue.names.0": "a"}}),
        (http(body=JSON), {"json": {"up": True, "queue": ..., "status": re.compile("^o")}}),
        (http("503 Busy", JSON), {"status": 503}),
        (http("200 OK", gzip.compress(b"yes", mtime=0), "Content-Encoding: gzip"), {"text": "yes"}),
        (http("200 OK", "grüß".encode("latin-1"), "Content-Type: text/html; charset=latin-1"),
         {"text": "grüß"}),
        (http("200 OK", b"text", "Content-Type: text/html; charset=nonsense"), {"text": "text"}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
         {"text": "abc"}),
        (http("301 Moved", b"", "Location: /new?a=1"), {"redirect": "/new?a=1"}),
        (http("301 Moved", b"", "Location: /gr%C3%B6%C3%9Fe"), {"redirect": "/größe"}),
        (http("301 Moved", b"", "Location: /größe"), {"redirect": "/größe"}),
        (http("301 Moved", b"", "Location: /new page/"), {"redirect": "/new page/"}),
        (http("200 OK", b"", "Set-Cookie: lang=en", "Set-Cookie: tracker=1"),
         {"response_headers": {"Set-Cookie": "tracker=1"}}),
        (http("301 Moved", b"", "Location: https://bücher.example"),
         {"redirect": "https://xn--bcher-kva.example/"}),
        (http(body=b"b" * (MAX_BODY + 5)), {"text": "bbb"}),
        (http(body=b"b" * MAX_BODY), {"no_text": "a"}),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(body=b"more"), {"text": "more"}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", {"status": 304}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", {"method": "HEAD"}),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", {"text": "until the end"}),
        (http("200 OK", b"as is", "Content-Encoding: nonsense"), {"text": "as is"}),
    ],
    ids=short_id,
)  # fmt: skip
def test_address__passes(run_http: RunHttp, response: bytes, entry: dict[str, Any]) -> None:
    assert_passed(over_http(run_http, response, **entry))


@pytest.mark.parametrize(
    ("response", "entry", "message"),
    [
        (http("500 No", b"broken"), {}, "is 500, not 200-299; the body starts with 'broken'"),
        (http("500 No"), {}, "the status is 500, not 200-299; the body is empty"),
        (http(body=JSON), {"json": {"status": "down"}}, "'status' of the JSON is 'ok', not 'down'"),
        (http(body=JSON), {"json": {"up": 1}}, "'up' of the JSON is True, not 1"),
        (http(body=JSON), {"json": {"queue.names.1": "a"}}, "the JSON has no 'queue.names.1'"),
        (http(body=JSON), {"json": {"queue.names.a": "a"}}, "the JSON has no 'queue.names.a'"),
        (http(body=JSON), {"json": {"status.x": "a"}}, "the JSON has no 'status.x'"),
        (b"", {}, "closed the connection too early, or does not speak HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", {}, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", {}, "too early.*IncompleteRead"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", {},
            "too early.*IncompleteRead",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", {},
            "too early.*IncompleteRead",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", {},
            "does not speak HTTP .InvalidHeader",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101, {}, "does not speak HTTP .HTTPException"),
        (b"HTTP/1.1 200 " + b"K" * 70_000, {}, "does not speak HTTP .LineTooLong"),
        (http("200 OK", b"no gzip", "Content-Encoding: gzip"), {}, "cannot be decompressed"),
        (http("302 Found", b"", "Location: ftp://x.example/"), {"follow": True}, "not an HTTP URL"),
        (http("302 Found", b"", "Location: http://x:99999/"), {"follow": True}, "an invalid URL"),
        (http("302 Found", b"", f"Location: http://{'x' * 64}/"), {"follow": True}, "an invalid"),
        (http("302 Found", b"", "Location: http://[x/"), {"redirect": "/"}, "an invalid URL"),
        (
            http(body=b"b" * (MAX_BODY + 5)), {"text": "a"},
            "'a' is not in the first 10,000,000 bytes of the body",
        ),
        (
            http("200 OK", gzip.compress(b"b" * (3 * MAX_BODY), mtime=0), "Content-Encoding: gzip"),
            {"json": {}}, "longer than 10,000,000 bytes",
        ),
    ],
    ids=short_id,
)  # fmt: skip
def test_address__fails(
    run_http: RunHttp, response: bytes, entry: dict[str, Any], message: str
) -> None:
    result = only(over_http(run_http, response, **entry))
    assert result.outcome == "failed"
    assert re.search(message, result.message), result.message
    assert result.message.startswith("GET http://127.0.0.1:")


def silent(connection: socket.socket) -> None:
    """Accept the connection and send nothing."""
    while connection.recv(65536):
        pass


def redirecting(connection: socket.socket) -> None:
    """Redirect to the same URL, for longer than the time limit in total."""
    request_of(connection)
    time.sleep(0.4)
    connection.sendall(http("302 Found", b"", "Location: /"))
    connection.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("handler", "step"),
    [
        (silent, "waiting for the response"),
        (dripping(b"HTTP/1.1 200 OK\r\n"), "waiting for the response"),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), "reading the response"),
        (dripping(CHUNKED + b"fff\r\n"), "reading the response"),
        (dripping(CHUNKED + b"1;"), "reading the response"),
        (redirecting, "waiting for the response"),
    ],
    ids=["silent", "head", "body", "chunk", "chunk size", "redirects"],
)
def test_server_that_never_ends(
    run_http: RunHttp,
    authority: Authority,
    time_limit: float,
    handler: Any,
    step: str,
    is_secure: bool,
) -> None:
    """The test fails with a message before it times out."""
    entry = {"timeout": 60, "follow": True}
    with listening(handler, authority.context() if is_secure else None) as port:
        if is_secure:
            entry |= {"url": f"https://localhost:{port}/", "ca_file": str(authority.file)}
        else:
            entry |= {"url": f"http://127.0.0.1:{port}/"}
        result = only(run_http(entry))
    assert result.outcome == "failed"
    told = re.search(r"did not respond within (\S+) s; it timed out while (.*)", result.message)
    assert told, result.message
    assert told[2] == step
    assert handler is redirecting or time_limit <= float(told[1]) < 30


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
def test_server_that_reads_slowly(authority: Authority, is_secure: bool) -> None:
    """The time limit includes sending the request, whose body is larger than all buffers."""
    is_over = threading.Event()

    def read_slowly(connection: socket.socket) -> None:
        while not is_over.wait(0.05) and connection.recv(1000):
            pass

    with listening(read_slowly, authority.context() if is_secure else None) as port:
        url = f"{'https' if is_secure else 'http'}://localhost:{port}/"
        ca_file = str(authority.file) if is_secure else ""
        with pytest.raises(NoResponseError, match="timed out while waiting for the response"):
            fetch(url, method="POST", body=bytes(50_000_000), time_limit=1.5, ca_file=ca_file)
        is_over.set()


@pytest.mark.usefixtures("time_limit")
def test_proxy_that_never_ends(run_http: RunHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(dripping(b"HTTP/1.1 200 OK\r\n")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:word@127.0.0.1:{proxy}")
        for result in run_http({"url": "https://partner.invalid/", "timeout": 60}).results:
            assert f"127.0.0.1:{proxy} did not respond within" in result.message
            assert result.message.endswith("it timed out while connecting (the proxy)")


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("drips", [False, True])
def test_tls_that_never_ends(run_http: RunHttp, drips: bool) -> None:
    with listening(dripping_records if drips else silent) as port:
        report = run_http({"url": f"https://127.0.0.1:{port}/", "timeout": 60})
    for result in report.results:
        assert (result.outcome, result.duration < 30) == ("failed", True)
        assert "it timed out while performing the TLS handshake" in result.message


def test_slow_response(run_http: RunHttp) -> None:
    """The message contains the duration of each step."""

    def handler(connection: socket.socket) -> None:
        request_of(connection)
        time.sleep(0.3)
        connection.sendall(http())

    with listening(handler) as port:
        entry = {"url": f"http://127.0.0.1:{port}/", "max_time": 0.2}
        result = only(run_http(entry))
        assert_passed(run_http({**entry, "max_time": 50}))
    match = re.search(
        r"it took (\d+\.\d\d) s, which is more than 0.2 s \(resolving the name (\d+\.\d\d),"
        r" connecting (\d+\.\d\d), waiting for the response (\d+\.\d\d),"
        r" reading the response (\d+\.\d\d)\)$",
        result.message,
    )
    assert match, result.message
    total, *steps = map(float, match.groups())
    assert steps[2] >= 0.3
    assert sum(steps) - 0.03 <= total < sum(steps) + 20  # each is rounded


def hang_up(connection: socket.socket) -> None:
    """Read the request, and reset the connection."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_reset(run_http: RunHttp) -> None:
    with listening(hang_up) as port:
        result = only(run_http(f"http://127.0.0.1:{port}/"))
    assert "closed the connection too early" in result.message
    assert "ConnectionResetError" in result.message


def test_connection_refused(run_http: RunHttp) -> None:
    result = only(run_http(f"http://127.0.0.1:{free_port()}/"))
    assert "refuses connections: start the server" in result.message


def test_name_not_resolved(run_http: RunHttp) -> None:
    result = only(run_http("http://no-such-name.invalid/"))
    assert result.message.startswith("GET http://no-such-name.invalid/: the name of")
    assert "cannot be resolved" in result.message


@contextmanager
def unresponsive(address: str, port: int = 0) -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel ignores further ones."""
    with socket.create_server((address, port), backlog=0) as server, ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Make localhost resolve to two addresses."""
    addresses, resolve = ("127.0.0.2", "127.0.0.1"), socket.getaddrinfo

    def resolve_localhost(host: str, *args: Any, **kwargs: Any) -> Any:
        hosts = addresses if host == "localhost" else [host]
        return [found for host in hosts for found in resolve(host, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_localhost)
    return addresses


def test_address_that_refuses(run_http: RunHttp, two_addresses: tuple[str, str]) -> None:
    """The next address is tried."""
    with listening(respond_with(http()), host=two_addresses[1]) as port:
        assert_passed(run_http(f"http://localhost:{port}/"))


@pytest.mark.usefixtures("time_limit")
def test_address_that_does_not_respond(run_http: RunHttp, two_addresses: tuple[str, str]) -> None:
    """The addresses share the time limit."""
    first, second = two_addresses
    with listening(respond_with(http()), host=second) as port, unresponsive(first, port):
        assert_passed(run_http({"url": f"http://localhost:{port}/", "timeout": 60}))
    with unresponsive(first) as port, unresponsive(second, port):
        result = only(run_http({"url": f"http://localhost:{port}/", "timeout": 60}))
    assert "it timed out while connecting" in result.message


GEVENT = """
from gevent import monkey

monkey.patch_all()
import sys
from pathlib import Path

from smoketest.contrib.http.expectations import NoResponseError
from smoketest.contrib.http.fetching import fetch
from tests.servers.tls import Authority, dripping, dripping_records, http, listening, respond_with

authority = Authority(Path(sys.argv[1]))
for handler, context in [
    (respond_with(http(body=b"answer")), authority.context()),
    (dripping(b"HTTP/1.1 200 OK\\r\\n"), authority.context()),
    (dripping_records, None),
]:
    with listening(handler, context) as port:
        try:
            url = f"https://localhost:{port}/"
            print(fetch(url, time_limit=2, ca_file=str(authority.file)).body.decode())
        except NoResponseError as error:
            print(str(error).partition("; ")[2])
"""


def test_gevent(tmp_path: Path) -> None:
    """The time limit applies to requests of greenlets, too."""
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "answer",
        "it timed out while waiting for the response",
        "it timed out while performing the TLS handshake",
    ], done.stderr


# Certificates


def over_tls(run_http: RunHttp, context: Any, host: str = "localhost", **entry: Any) -> Report:
    with listening(respond_with(http(body=b"safe")), context) as port:
        return run_http({"url": f"https://{host}:{port}/", **entry})


def test_certificate__passes(run_http: RunHttp, authority: Authority) -> None:
    report = over_tls(
        run_http, authority.context(days=20), ca_file=str(authority.file), text="safe"
    )
    assert_passed(report)
    assert [(r.id.rpartition(".")[2], r.declaration.severity) for r in report.results] == [
        ("test_answers", "critical"),
        ("test_certificate", "warning"),
    ]


@pytest.mark.parametrize(
    ("entry", "settings"),
    [({}, {}), ({"certificate_days": 6}, {}), ({}, {"SMOKETEST_HTTP_CERTIFICATE_DAYS": 6})],
)
def test_certificate__expires_soon(
    run_http: RunHttp, authority: Authority, entry: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Only the certificate test fails."""
    with listening(respond_with(http()), authority.context(days=5)) as port:
        report = run_http(
            {"url": f"https://localhost:{port}/", "ca_file": str(authority.file), **entry},
            **settings,
        )
    assert only(report).outcome == "passed"
    result = only(report, "test_certificate")
    assert result.outcome == "failed"
    days = "6" if entry or settings else "14"
    assert re.search(
        rf"expires on \d{{4}}-.* UTC, in [45]\.\d days, which is less than {days}: renew",
        result.message,
    ), result.message


def test_certificate__custom_days(run_http: RunHttp, authority: Authority) -> None:
    report = over_tls(
        run_http, authority.context(days=5), ca_file=str(authority.file), certificate_days=4
    )
    assert_passed(report)


@pytest.mark.parametrize(
    ("context", "host", "message"),
    [
        (lambda a, _: a.context(days=-1), "localhost", "has expired: renew it"),
        (lambda a, _: a.context("other.example"), "localhost", "is for another name"),
        (lambda a, _: a.context(), "127.0.0.1", "is for another IP address"),
        (lambda _, folder: self_signed(folder), "localhost", "is self-signed"),
    ],
    ids=["expired", "wrong name", "wrong address", "self-signed"],
)
def test_certificate__rejected(
    run_http: RunHttp, authority: Authority, tmp_path: Path, context: Any, host: str, message: str
) -> None:
    """Both tests fail with the reason, since the site is unusable."""
    report = over_tls(run_http, context(authority, tmp_path), host, ca_file=str(authority.file))
    assert len(report.results) == 2
    for result in report.results:
        assert result.outcome == "failed"
        assert f"the certificate of {host}" in result.message
        assert message in result.message


def test_certificate__unknown_authority(run_http: RunHttp, authority: Authority) -> None:
    result = only(over_tls(run_http, authority.context()))
    assert "an authority that this host does not trust" in result.message


def test_server_without_tls(run_http: RunHttp) -> None:
    def handler(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(http("400 Bad Request"))

    with listening(handler) as port:
        result = only(run_http(f"https://localhost:{port}/"))
    assert result.outcome == "failed"
    assert f"TLS with localhost:{port} fails: " in result.message


def test_tls_version_that_is_not_supported(run_http: RunHttp) -> None:
    """The server sends the alert "protocol version" (RFC 8446, section 6)."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with listening(answer) as port:
        result = only(run_http(f"https://localhost:{port}/"))
    assert f"TLS with localhost:{port} fails: TLSV1_ALERT_PROTOCOL_VERSION" in result.message


def test_connection_that_ends_during_the_handshake(run_http: RunHttp) -> None:
    with listening(hang_up) as port:
        result = only(run_http(f"https://localhost:{port}/"))
    assert f"localhost:{port} closed the connection too early" in result.message


def test_ca_file_without_certificates(run_http: RunHttp, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    for result in run_http({"url": "https://localhost/", "ca_file": file}).results:
        assert f"the CA certificates in {file} cannot be loaded: " in result.message


# Requests


def test_address_with_ipv6(run_http: RunHttp, authority: Authority) -> None:
    requests: list[bytes] = []
    with listening(respond_with(http(), requests), host="::1") as port:
        assert_passed(run_http(f"http://[::1]:{port}/x"))
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in requests[0]
    with listening(respond_with(http()), authority.context("::1"), host="::1") as port:
        entry = {"url": f"https://[::1]:{port}/x", "ca_file": str(authority.file)}
        assert_passed(run_http(entry))


def test_request(run_http: RunHttp) -> None:
    requests: list[bytes] = []
    with listening(respond_with(http(), requests)) as port:
        report = run_http(
            {
                "url": f"http://127.0.0.1:{port}/a b".replace(" ", "%20") + "?c=ü",
                "method": "PUT",
                "headers": {"Authorization": "Bearer sesame"},
                "body": [1],
            },
            f"http://127.0.0.1:{port}",
        )
    assert_passed(report)
    put, get = sorted(requests, reverse=True)
    assert put.startswith(b"PUT /a%20b?c=%C3%BC HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer sesame\r\n" in put
    assert b"\r\nContent-Type: application/json\r\n" in put
    assert b"\r\nConnection: close\r\n" in put
    assert b"\r\nUser-Agent: django-smoketest\r\n" in get
    assert get.startswith(b"GET / HTTP/1.1\r\n")


def test_request__is_not_normalized(run_http: RunHttp) -> None:
    """The server gets the path as it is written, such as one that leads out of a directory."""
    requests: list[bytes] = []
    with listening(respond_with(http(), requests)) as port:
        assert_passed(run_http(f"http://127.0.0.1:{port}//static/../secret/%2f?a=[1]&b=%c3"))
    assert requests[0].startswith(b"GET //static/../secret/%2f?a=[1]&b=%c3 HTTP/1.1\r\n")


def test_request__with_lower_case_headers(run_http: RunHttp) -> None:
    """Headers of the entry replace the default headers."""
    requests: list[bytes] = []
    with listening(respond_with(http(), requests)) as port:
        headers = {"accept": "text/csv", "user-agent": "mine"}
        assert_passed(run_http({"url": f"http://127.0.0.1:{port}/", "headers": headers}))
    lines = requests[0].lower().split(b"\r\n")
    assert [line for line in lines if line.startswith(b"accept:")] == [b"accept: text/csv"]
    assert [line for line in lines if line.startswith(b"user-agent:")] == [b"user-agent: mine"]


@pytest.mark.parametrize(
    ("location", "request_line"),
    [
        ("/größe/#oben", b"GET /gr%C3%B6%C3%9Fe/ "),
        ("/new page/", b"GET /new%20page/ "),
        ("/new/?a=1#top", b"GET /new/?a=1 "),
    ],
)
def test_redirect__url_encoding(run_http: RunHttp, location: str, request_line: bytes) -> None:
    requests: list[bytes] = []

    def handler(connection: socket.socket) -> None:
        requests.append(request_of(connection))
        moved = http("302 Found", b"", f"Location: {location}")
        connection.sendall(moved if len(requests) == 1 else http(body=b"arrived"))
        connection.close()

    with listening(handler) as port:
        entry = {"url": f"http://127.0.0.1:{port}/", "follow": True, "text": "arrived"}
        assert_passed(run_http({**entry, "redirect": location.partition("#")[0]}))
    assert requests[1].startswith(request_line)


def test_redirect__to_another_host(run_http: RunHttp) -> None:
    """Headers and body are not sent to another host, but are sent again after a redirect back."""
    there: list[bytes] = []
    here: list[bytes] = []
    with listening(respond_with(http(body=b"arrived"), there)) as other:
        moved = http("302 Found", b"", f"Location: http://127.0.0.1:{other}/x")
        with listening(respond_with(moved, here)) as port:
            entry = {
                "url": f"http://127.0.0.1:{port}/",
                "headers": {"X-Api-Key": "sesame"},
                "follow": True,
            }
            assert_passed(run_http({**entry, "text": "arrived"}))
        kept = http("307 Temporary", b"", f"Location: http://127.0.0.1:{other}/x")
        with listening(respond_with(kept, here)) as port:
            entry |= {"url": f"http://127.0.0.1:{port}/", "method": "POST", "body": "mine"}
            result = only(run_http(entry))
    assert b"X-Api-Key: sesame" in here[0]
    assert len(there) == 1
    assert b"sesame" not in there[0]
    assert "to which the body is not sent" in result.message


def test_credentials_in_a_redirect(run_http: RunHttp) -> None:
    """They are neither sent nor shown."""
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        requests.append(request_of(connection))
        connection.sendall(
            http("302 Found", b"", f"Location: http://me:word@127.0.0.1:{port}/?a=b")
        )
        connection.close()

    with listening(answer) as port:
        entry = {"url": f"http://127.0.0.1:{port}/", "follow": True}
        result = only(run_http(entry))
    assert "more than 10 redirects: " in result.message
    assert "word" not in f"{result.message}{result.traceback}"
    assert len(requests) == 11
    assert not re.search(b"word|authorization", b"".join(requests).lower())


def test_secrets__are_not_shown(run_http: RunHttp) -> None:
    """Secrets are redacted even if the server returns them."""

    def handler(connection: socket.socket) -> None:
        request = request_of(connection)
        time.sleep(0.05)
        connection.sendall(http("403 Forbidden", b"I do not know " + request))

    with listening(handler) as port:
        result = only(
            run_http(
                {
                    "url": f"http://127.0.0.1:{port}/x?key=pass-in-query",
                    "headers": {"Authorization": "Bearer pass-in-header"},
                    "method": "POST",
                    "body": "pass-in-body",
                }
            )
        )
    assert "the status is 403" in result.message
    assert "I do not know" in result.message
    shown_text = f"{result.message}{result.traceback}"
    assert not re.findall("pass-in-[a-z]+", shown_text)


def test_secrets__parts_redacted(run_http: RunHttp) -> None:
    """A token is redacted even without its scheme."""
    entry = {"headers": {"Authorization": "Bearer pass-in-header", "Accept": "text/html"}}
    refusal = http("403 Forbidden", b"pass-in-header may not have text/html")
    message = only(over_http(run_http, refusal, **entry)).message
    assert "the body starts with '******** may not have text/html'" in message


@pytest.mark.parametrize(
    "body",
    [
        {"user": {"names": ["me"], "token": "grün-in-body"}},
        "user=me&token=gr%C3%BCn-in-body",
        "grün-in-body",
    ],
)
def test_secrets__decoded_values_redacted(run_http: RunHttp, body: Any) -> None:
    """Decoded values of the query and the body are redacted."""
    refusal = http("403 Forbidden", "not pa/ss word, nor grün-in-body".encode())
    with listening(respond_with(refusal)) as port:
        url = f"http://127.0.0.1:{port}/x?key=pa%2Fss+word"
        message = only(run_http({"url": url, "method": "POST", "body": body})).message
    assert "the body starts with 'not ********, nor ********'" in message


def test_compressed_body__memory_limit(run_http: RunHttp) -> None:
    """The body is decompressed only up to the limit."""
    compressed = gzip.compress(bytes(20 * MAX_BODY), 1)
    tracemalloc.start()
    try:
        report = over_http(run_http, http("200 OK", compressed, "Content-Encoding: gzip"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_passed(report)
    assert peak < 4 * MAX_BODY


def test_proxy(run_http: RunHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are used, except for hosts in NO_PROXY."""
    requests: list[bytes] = []
    with listening(respond_with(http("200 OK", b"by proxy"), requests)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{proxy}")
        assert_passed(run_http({"url": "http://partner.invalid/x", "text": "by proxy"}))
        monkeypatch.setenv("no_proxy", "partner.invalid")
        assert "cannot be resolved" in only(run_http("http://partner.invalid/x")).message
    assert requests[0].startswith(b"GET http://partner.invalid/x HTTP/1.1\r\n")
    assert b"Host: partner.invalid\r\n" in requests[0]
    assert b"Proxy-Authorization: Basic bWU6d29yZA==\r\n" in requests[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy__down(run_http: RunHttp, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The message names the proxy, without its password."""
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:word@127.0.0.1:{port}")
    message = only(run_http(f"{scheme}://partner.invalid/x")).message
    assert f"127.0.0.1:{port} refuses connections" in message
    assert message.endswith(" (the proxy)")
    assert "word@" not in message


def test_tunnel(run_http: RunHttp, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is established with the server, through the proxy; only the proxy gets its password."""
    context = authority.context("xn--bcher-kva.invalid")
    context.sni_callback = lambda _, name, __: names.append(name)
    names: list[str | None] = []
    requests: list[bytes] = []

    def tunnel(connection: socket.socket) -> None:
        requests.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with closing(context.wrap_socket(connection, server_side=True)) as secured:
            respond_with(http(body=b"inside"), requests)(secured)

    entry = {"url": "https://bücher.invalid./x", "ca_file": str(authority.file), "text": "inside"}
    with listening(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"me:w%C3%B6rd@127.0.0.1:{proxy}")
        assert_passed(run_http(entry))
    connects = [request for request in requests if request.startswith(b"CONNECT ")]
    (get,) = [request for request in requests if request not in connects]
    assert len(connects) == 2  # one for each test
    for connect in connects:
        assert connect.startswith(b"CONNECT xn--bcher-kva.invalid.:443 HTTP/1.")
        assert b"\r\nProxy-Authorization: Basic bWU6d8O2cmQ=\r\n" in connect
    assert get.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"\r\nHost: xn--bcher-kva.invalid.\r\n" in get
    assert b"Proxy-Authorization" not in get
    assert names == ["xn--bcher-kva.invalid"] * 2  # SNI, without a trailing dot (RFC 6066)


CLOSED = "closed the connection too early, or does not speak HTTP"


def connect_without_tls(connection: socket.socket) -> None:
    """Connect to a server that does not use TLS."""
    request_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    connection.recv(65536)
    connection.sendall(http("400 Bad Request"))


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            respond_with(http("407 Log in")),
            "the proxy 127.0.0.1 does not connect to partner.invalid:443: status 407 Log in",
        ),
        (
            hang_up,
            f"127.0.0.1:{{}} {CLOSED} (ConnectionResetError) (the proxy)",
        ),
        (
            respond_with(b"SSH-2.0-OpenSSH\r\n"),
            f"127.0.0.1:{{}} {CLOSED} (BadStatusLine) (the proxy)",
        ),
        (
            connect_without_tls,
            "TLS with partner.invalid fails: WRONG_VERSION_NUMBER",
        ),
    ],
    ids=["rejects", "resets", "no proxy", "no TLS"],
)
def test_tunnel__fails(
    run_http: RunHttp, monkeypatch: pytest.MonkeyPatch, handler: Any, message: str
) -> None:
    """The message says whether the proxy or the server is at fault, without the password."""
    with listening(handler) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:word@127.0.0.1:{proxy}")
        results = run_http("https://partner.invalid/").results
    for result in results:
        assert result.message == f"GET https://partner.invalid/: {message.format(proxy)}"
        assert "me:word" not in result.traceback


@pytest.mark.parametrize(
    "value",
    [
        "socks5://me:word@x:1080",
        "https://me:word@x",
        "http://me:word@x:99999",
        "http://me:word@:80",
    ],
)
def test_proxy_that_is_not_valid(
    run_http: RunHttp, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("http_proxy", value)
    result = only(run_http("http://partner.invalid/"))
    assert result.message == (
        "GET http://partner.invalid/: the value of HTTP_PROXY is not valid: set it to a URL such as"
        " http://proxy.example:3128"
    )
    assert "word" not in result.traceback


# Client


@pytest.fixture(params=["absent", "old"])
def missing_client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Make urllib3 unavailable, and return how it is reported."""
    package = import_module(APP)
    for module in ("cases", "fetching"):  # are imported again, and restored after the test
        monkeypatch.setattr(package, module, import_module(f"{APP}.{module}"))
        monkeypatch.delitem(sys.modules, f"{APP}.{module}")
    for name in list(sys.modules):
        if name.partition(".")[0] == "urllib3":
            monkeypatch.delitem(sys.modules, name)
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "urllib3", None)  # as if it were not installed
        return f"{APP} requires urllib3 2.7 or later, which is not installed."
    metadata = tmp_path / "old" / "urllib3-1.26.20.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Name: urllib3\nVersion: 1.26.20\n")
    (tmp_path / "old" / "urllib3.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "old")
    return f"{APP} requires urllib3 2.7 or later; 1.26.20 is installed."


INSTALL = 'Install it: pip install "django-smoketest[http]".'


def test_without_the_client(run_http: RunHttp, missing_client: str) -> None:
    """Tests of URLs fail and name the extra. Tests of paths need no client."""
    report = run_http("/", "https://localhost/")
    page, *addresses = report.results
    assert (page.outcome, page.message) == ("passed", "")
    assert len(addresses) == 2
    for result in addresses:
        assert result.outcome == "failed"
        assert result.message == f"{missing_client} {INSTALL}"


def test_system_check__without_the_client(missing_client: str) -> None:
    entries = ["/", "no path"]
    with override_settings(INSTALLED_APPS=APPS, SMOKETEST_HTTP_CHECKS=entries):
        assert "smoketest.E124" not in {e.id for e in run_checks(tags=["smoketest"])}
        entries.append("https://localhost/")
        errors = {e.id: e for e in run_checks(tags=["smoketest"])}
    assert (errors["smoketest.E124"].msg, errors["smoketest.E124"].hint) == (
        missing_client,
        INSTALL,
    )
    assert "smoketest.E123" in errors


def test_client__is_the_oldest_that_is_supported() -> None:
    """The system check, the extra and the oldest environment of tox agree."""
    root = Path(__file__).parents[2]
    oldest = ".".join(map(str, OLDEST_CLIENT))
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["http"] == [f"urllib3>={oldest},<3"]
    assert re.search(
        rf"^ +py311: urllib3=={oldest}\.0$", (root / "tox.ini").read_text(), re.MULTILINE
    )


def test_start_up__imports_no_client() -> None:
    """The app does not import the client library before a test needs it."""
    code = (
        "import sys, django\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['smoketest', 'smoketest.contrib.http'])\n"
        "django.setup()\n"
        "assert 'urllib3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Classes


def test_names(run_http: RunHttp) -> None:
    """Names are stable and readable, since they identify time series, and contain no secrets."""
    port = free_port()
    report = run_http(
        "/",
        "/?a=1",
        "/login/",
        {"url": f"http://localhost:{port}/health?key=secret"},
        {"url": f"https://localhost:{port}/", "name": "partner", "severity": "warning",
         "maintainer": "payments", "runbook_url": "https://wiki.example", "every": 60,
         "tags": ["partners"], "slow_after": 2, "timeout": 7},
    )  # fmt: skip
    ids = {r.id.removeprefix("smoketest.contrib.http.smoke."): r.declaration
           for r in report.results}  # fmt: skip
    assert set(ids) == {
        "HomePageTest.test_answers",
        "HomePageTest2.test_answers",
        "LoginPageTest.test_answers",
        "LocalhostHealthAddressTest.test_answers",
        "PartnerSecureAddressTest.test_answers",
        "PartnerSecureAddressTest.test_certificate",
    }
    declared = ids["PartnerSecureAddressTest.test_answers"]
    assert (declared.severity, declared.maintainer, declared.every) == ("warning", "payments", 60)
    assert (declared.timeout, declared.slow_after) == (7, 2)
    assert set(declared.tags) == {"http", "partners"}
    assert declared.databases == ()
    assert declared.description.startswith(
        "The URL responds as specified in SMOKETEST_HTTP_CHECKS."
    )
    assert ids["LoginPageTest.test_answers"].databases == "__all__"


def test_no_entries(run_http: RunHttp) -> None:
    """Without entries, there are no tests."""
    assert run_http().results == ()


def test_max_time__longer_than_default_timeout(run_http: RunHttp) -> None:
    report = run_http({"url": "/", "max_time": 30}, SMOKETEST_TIMEOUT=10)
    assert only(report).declaration.timeout == pytest.approx(30 / 0.9 + 1)


# Entries


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        ({}, "'url' is missing.", ""),
        ({"url": "/", "stauts": 200}, "'stauts' is not a valid key.", "Did you mean status?"),
        ({"url": "/", "zzz": 1}, "'zzz' is not a valid key.", "Valid keys are url, name, method"),
        ("login/", "'url' is invalid; it must be a path of this site, such as '/login/', or", ""),
        ("//x.example/", "'url' is invalid", ""),
        ("ftp://x.example/", "'url' is invalid", ""),
        ("https://me:word@x.example/", "without a user name", ""),
        ("https://x.example:99999/", "'url' is invalid", ""),
        ("https://x.example/#top", "'url' is invalid", ""),
        ("https:///x", "'url' is invalid", ""),
        ("/a b", "'url' is invalid", ""),
        ({"url": 5}, "'url' is invalid", ""),
        ({"url": "/", "status": "2x"}, "'status' is '2x'; it must be a status from 100 to", ""),
        ({"url": "/", "status": []}, "'status' is []", ""),
        ({"url": "/", "status": 99}, "'status' is 99", ""),
        ({"url": "/", "status": True}, "'status' is True", ""),
        ({"url": "/", "method": "FETCH"}, "it must be one of GET, HEAD", ""),
        ({"url": "/", "headers": {"A": 1}}, "'headers' is invalid; it must be a dict of", ""),
        ({"url": "/", "headers": {"A": "secret\r\nB: c"}}, "without line breaks", ""),
        ({"url": "/", "headers": {"A b": "c"}}, "'headers' is invalid", ""),
        ({"url": "/", "body": 5}, "'body' is invalid", ""),
        ({"url": "/", "text": ""}, "'text' is ''", ""),
        ({"url": "/", "text": [1]}, "'text' is [1]", ""),
        ({"url": "/", "text": re.compile(b"a")}, "'text' is re.compile(b'a')", ""),
        ({"url": "/", "json": ["a"]}, "'json' is ['a']", ""),
        ({"url": "/", "json": {}, "method": "HEAD"}, "'json' is not valid with HEAD", ""),
        ({"url": "/", "response_headers": {"A": 1}}, "'response_headers' is", ""),
        ({"url": "/", "redirect": "new/"}, "'redirect' is 'new/'", ""),
        ({"url": "/", "follow": 1}, "'follow' is 1; it must be True or False", ""),
        ({"url": "/", "max_time": 0}, "'max_time' is 0; it must be a number of seconds", ""),
        ({"url": "/", "max_time": 5, "timeout": 5}, "less than 90% of 'timeout', which is 5", ""),
        ({"url": "/", "max_time": 4.5, "timeout": 5}, "less than 90% of 'timeout'", ""),
        (
            {"url": "/", "certificate_days": 5},
            "is only valid for URLs that start with https://",
            "",
        ),
        ({"url": "https://x.example", "ca_file": "/none"}, "path of a file that exists", ""),
        ({"url": "/", "severity": "high"}, "it must be 'critical' or 'warning'", ""),
        ({"url": "/", "every": -1}, "'every' is -1", ""),
        ({"url": "/", "tags": "db"}, "'tags' is 'db'; it must be a list of non-empty strings", ""),
        ({"url": "/", "name": "-"}, "'name' is '-'", ""),
        ({"url": "/", "maintainer": 5}, "'maintainer' is 5", ""),
    ],
)
def test_invalid_entries(entry: Any, message: str, hint: str) -> None:
    """The system check names the entry and what is allowed, but no secret."""
    with override_settings(INSTALLED_APPS=APPS, SMOKETEST_HTTP_CHECKS=["/", entry]):
        (error,) = (e for e in run_checks(tags=["smoketest"]) if e.id == "smoketest.E123")
    assert error.msg.startswith("SMOKETEST_HTTP_CHECKS[1]: ")
    assert message in error.msg
    assert (error.hint or "").startswith(hint)
    assert "secret" not in error.msg
    assert "word@" not in error.msg
    with pytest.raises(InvalidEntryError):
        parse(entry)


@pytest.mark.parametrize("value", ["/", [5], {"url": "/"}, None])
def test_invalid_setting(value: Any) -> None:
    with override_settings(INSTALLED_APPS=APPS, SMOKETEST_HTTP_CHECKS=value):
        errors = [e for e in run_checks(tags=["smoketest"]) if e.id == "smoketest.E121"]
    assert len(errors) == 1
    assert "it must be a list or tuple of paths" in errors[0].msg


@pytest.mark.parametrize("days", [-1, "14", None])
def test_invalid_certificate_days(days: Any) -> None:
    with override_settings(INSTALLED_APPS=APPS, SMOKETEST_HTTP_CERTIFICATE_DAYS=days):
        assert "smoketest.E122" in {e.id for e in run_checks(tags=["smoketest"])}


def test_valid_entries() -> None:
    """Valid entries cause no messages."""
    entries = ["/", {"url": "https://x.example", "certificate_days": 0, "status": ["2xx", 404]}]
    with override_settings(INSTALLED_APPS=APPS, SMOKETEST_HTTP_CHECKS=entries):
        assert not [e for e in run_checks(tags=["smoketest"]) if e.id in {
            "smoketest.E121", "smoketest.E122", "smoketest.E123", "smoketest.W001"}]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://BÜCHER.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("http://[::1]:8000/x?y", "http://[::1]:8000/x?y"),
        ("https://x.example", "https://x.example/"),
    ],
)
def test_urls(given: str, url: str) -> None:
    assert parse(given).url == url


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://me:word@x.example/a?key=1", "https://x.example/a?..."),
        ("/a/b", "/a/b"),
        ("/a?b", "/a?..."),
    ],
)
def test_redact_url(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
