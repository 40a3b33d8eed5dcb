"""Send an HTTP request over the network and explain why a request fails.

Every request uses a new connection: a persistent one would hide problems with DNS, the
certificate or the load balancer.
"""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    IncompleteRead,
)
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

#: Maximum size of a body in bytes, after decompression.
MAX_BODY = 10_000_000
_CHUNK = 65_536

#: Explanations of the verification error codes of OpenSSL (openssl-verification-options(1)).
_VERIFICATION = {
    9: "is not valid yet: check the clock of this host",
    10: "has expired: renew it and reload the server",
    18: "is self-signed: get one from a certificate authority, or set 'ca_file' to its file",
    19: "was issued by an authority that this host does not trust: set 'ca_file' to its file",
    20: (
        "was issued by an authority that this host does not trust, or the server does not send"
        " the intermediate certificates: send the full chain, or set 'ca_file'"
    ),
    62: "is for another name: get one for this name, or correct the URL",
    64: "is for another IP address: get one for this address, or use the host name",
}


class NoResponseError(AssertionError):
    """No response was received; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """Response to a request, with its duration."""

    status: int
    headers: Message
    body: bytes
    #: Whether the body is longer than `MAX_BODY`.
    is_truncated: bool
    seconds: float
    #: Seconds by step.
    steps: Mapping[str, float] = field(default_factory=dict)


class _Clock:
    """Measures the duration of each step and the time until the deadline."""

    def __init__(self, time_limit: float) -> None:
        self._started = self._last = monotonic()
        self._deadline = self._started + time_limit
        self.steps: dict[str, float] = {}
        self.step = "resolving the name"

    def next(self, step: str) -> None:
        now = monotonic()
        self.steps[self.step] = now - self._last
        self._last, self.step = now, step

    @property
    def seconds(self) -> float:
        return monotonic() - self._started

    @property
    def left(self) -> float:
        return max(self._deadline - monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        return monotonic() >= self._deadline


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    time_limit: float,
    ca_file: str = "",
) -> Response:
    """Send a request and return the response. Redirects are not followed.

    `time_limit` is in seconds and does not include name resolution, which cannot be interrupted.
    Raises `NoResponseError`.
    """
    clock = _Clock(time_limit)
    parts = urlsplit(url)
    with _explain_errors(url, clock), _connected(parts, clock, ca_file) as connection:
        clock.next("waiting for the response")
        target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
        own: dict[str, str] = {"Connection": "close", "Accept-Encoding": "gzip, deflate"}
        if proxy := connection.proxy:
            target, own = url, {**own, **_proxy_authorization(proxy)}
        http = connection.http
        given = {name.lower() for name in headers or {}}
        sent = {k: v for k, v in {**_DEFAULT_HEADERS, **own}.items() if k.lower() not in given}
        http.request(method, target, body or None, {**sent, **(headers or {})})
        with closing(http.getresponse()) as response:
            if clock.is_over:  # the headers may be incomplete
                raise TimeoutError
            clock.next("reading the response")
            content, is_truncated = _read(response, clock)
        clock.next("")
        return Response(
            status=response.status,
            headers=response.headers,
            body=content,
            is_truncated=is_truncated,
            seconds=clock.seconds,
            steps=clock.steps,
        )


def get_certificate(url: str, *, time_limit: float, ca_file: str = "") -> dict[str, Any]:
    """Return the certificate of the server in the format of `ssl.SSLSocket.getpeercert`.

    Raises `NoResponseError`, also if the certificate is not trusted.
    """
    clock = _Clock(time_limit)
    with _explain_errors(url, clock), _connected(urlsplit(url), clock, ca_file) as connection:
        secured: Any = connection.http.sock
        return dict(secured.getpeercert())


_DEFAULT_HEADERS = {"User-Agent": "django-smoketest", "Accept": "*/*"}


@dataclass(frozen=True)
class _Connection:
    http: HTTPConnection
    #: The proxy, if the request line needs the absolute URL.
    proxy: SplitResult | None


@contextmanager
def _connected(parts: SplitResult, clock: _Clock, ca_file: str) -> Iterator[_Connection]:
    """Open a connection for one request; it is shut down at the deadline."""
    host, is_secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    proxy = _proxy(parts)
    if proxy is None:
        raw = _open(host, port, clock)
    else:
        with _explain_errors(proxy.geturl(), clock, " (the proxy)"):
            raw = _open(str(proxy.hostname), proxy.port or 80, clock)
    is_over = threading.Event()

    def shut_down() -> None:
        is_over.set()
        with suppress(OSError):
            socket.socket.shutdown(raw, socket.SHUT_RDWR)  # bypasses the TLS shutdown

    timer = threading.Timer(clock.left, shut_down)
    timer.daemon = True
    timer.start()
    try:
        if proxy is not None and is_secure:
            _tunnel(raw, host, port, proxy)
        http = HTTPConnection(host, port)
        if is_secure:
            http.default_port = 443  # HTTPSConnection would load the CA certificates again
            clock.next("performing the TLS handshake")
            context = ssl.create_default_context(cafile=ca_file or None)
            raw = secured = context.wrap_socket(
                raw,
                server_hostname=host,
                do_handshake_on_connect=False,  # shut_down() must see the new `raw`
            )
            secured.do_handshake()
        http.sock = raw
        with closing(http):
            yield _Connection(http, None if is_secure else proxy)
    except (OSError, HTTPException) as error:
        if is_over.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        raw.close()


def _open(host: str, port: int, clock: _Clock) -> socket.socket:
    """Connect to the first reachable address of the host; they share the time that is left."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    clock.next("connecting")
    problem: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            opened = socket.socket(family, kind, protocol)
        except OSError as error:  # a kernel without IPv6
            problem = problem or error
            continue
        try:
            opened.settimeout(clock.left / (len(addresses) - number))
            opened.connect(address)
        except OSError as error:
            opened.close()
            problem = error
        else:
            opened.settimeout(clock.left)
            return opened
    raise problem or OSError("the host name has no address")


def _proxy(parts: SplitResult) -> SplitResult | None:
    """Return the proxy for a URL: `urllib.request` reads ``HTTPS_PROXY``, ``NO_PROXY`` etc."""
    url = getproxies().get(parts.scheme)
    if not url or proxy_bypass(parts.netloc):
        return None
    return urlsplit(url if "://" in url else f"http://{url}")


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _tunnel(raw: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    lines += [f"{name}: {value}" for name, value in _proxy_authorization(proxy).items()]
    raw.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    response = HTTPResponse(raw, method="CONNECT")
    with closing(response):
        response.begin()
        if response.status != 200:
            msg = (
                f"the proxy {proxy.hostname} does not connect to {where}: status {response.status}"
            )
            raise NoResponseError(msg)


def _read(response: HTTPResponse, clock: _Clock) -> tuple[bytes, bool]:
    """Return the decompressed body, and whether it is truncated."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    decoder: Any = None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip and zlib
    content = bytearray()
    while (chunk := response.read(_CHUNK)) and not clock.is_over:  # the body may be endless
        content += decoder.decompress(chunk, MAX_BODY + 1 - len(content)) if decoder else chunk
        if len(content) > MAX_BODY:
            return bytes(content[:MAX_BODY]), True
    if clock.is_over:
        raise TimeoutError
    if response.length:
        raise IncompleteRead(b"", response.length)
    return bytes(content), False


@contextmanager
def _explain_errors(url: str, clock: _Clock, what: str = "") -> Iterator[None]:
    """Convert errors of the network to `NoResponseError`; `what` is appended to the message."""
    try:
        yield
    except (OSError, HTTPException, zlib.error) as error:
        explain = next(explain for kinds, explain in _EXPLANATIONS if isinstance(error, kinds))
        raise NoResponseError(explain(error, url, clock) + what) from None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _explain_certificate(error: Any, url: str, _: _Clock) -> str:
    reason = _VERIFICATION.get(error.verify_code, f"is not trusted: {error.verify_message}")
    return f"the certificate of {_host(url)} {reason}"


def _explain_timeout(_: Any, url: str, clock: _Clock) -> str:
    return (
        f"{_host(url)} did not respond within {clock.seconds:.1f} s; it timed out while"
        f" {clock.step}"
    )


#: Error types and their explanations; the first match is used.
_EXPLANATIONS: tuple[tuple[Any, Callable[[Any, str, _Clock], str]], ...] = (
    (
        socket.gaierror,
        lambda error, url, _: (
            f"the name of {_host(url)} cannot be resolved ({error.strerror}): check the DNS"
        ),
    ),
    (ssl.SSLCertVerificationError, _explain_certificate),
    (TimeoutError, _explain_timeout),
    (
        ssl.SSLError,
        lambda error, url, _: f"TLS with {_host(url)} fails: {error.reason or error}",
    ),
    (
        ConnectionRefusedError,
        lambda _, url, __: (
            f"{_host(url)} refuses connections: start the server, or allow the port in the firewall"
        ),
    ),
    (
        (ConnectionError, HTTPException),
        lambda error, url, _: (
            f"{_host(url)} closed the connection too early, or does not speak HTTP"
            f" ({type(error).__name__})"
        ),
    ),
    (
        zlib.error,
        lambda _, url, __: f"the compressed body from {_host(url)} cannot be decompressed",
    ),
    (
        OSError,
        lambda error, url, _: (
            f"{_host(url)} cannot be reached: {error.strerror or type(error).__name__}"
        ),
    ),
)
