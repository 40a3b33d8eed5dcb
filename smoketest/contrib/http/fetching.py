"""One request over the network, to its end or to a clear word why there is no answer.

By the standard library alone, over a connection of its own each time: a connection that is kept
would hide a name, a certificate or a balancer that no longer works.
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

#: Bytes of a body that are read, after it was unpacked.
MAX_BODY = 10_000_000
_CHUNK = 65_536

#: What OpenSSL says of a certificate that it does not accept (openssl-verification-options(1)).
_VERIFICATION = {
    9: "is not valid yet: look at the clock of this host",
    10: "has expired: renew it, and reload the server that shows it",
    18: "is self-signed: get one of an authority, or give its file as 'ca_file'",
    19: "comes from an authority that this host does not know: give its file as 'ca_file'",
    20: (
        "comes from an authority that this host does not know, or the server does not send the"
        " certificates in between: send the whole chain, or give a 'ca_file'"
    ),
    62: "is for another name: get one for this name, or ask for the right one",
    64: "is for another address: get one for this address, or ask for its name",
}


class NoAnswerError(AssertionError):
    """There is no answer; the message tells why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, and how long it took."""

    status: int
    headers: Message
    body: bytes
    #: Whether the body goes on beyond `MAX_BODY`.
    is_truncated: bool
    seconds: float
    #: Seconds of each step.
    steps: Mapping[str, float] = field(default_factory=dict)


class _Clock:
    """How long each step takes, and what is left."""

    def __init__(self, patience: float) -> None:
        self._began = self._last = monotonic()
        self._deadline = self._began + patience
        self.steps: dict[str, float] = {}
        self.step = "resolving the name"

    def next(self, step: str) -> None:
        now = monotonic()
        self.steps[self.step] = now - self._last
        self._last, self.step = now, step

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

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
    patience: float,
    ca_file: str = "",
) -> Answer:
    """Ask, and read the answer; takes no more than `patience` seconds, but for resolving the name.

    Redirects are not followed. Raises `NoAnswerError`.
    """
    clock = _Clock(patience)
    parts = urlsplit(url)
    with _explaining(url, clock), _connected(parts, clock, ca_file) as connection:
        clock.next("waiting for the answer")
        target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
        own: dict[str, str] = {"Connection": "close", "Accept-Encoding": "gzip, deflate"}
        if proxy := connection.proxy:
            target, own = url, {**own, **_proxy_authorization(proxy)}
        http = connection.http
        given = {name.lower() for name in headers or {}}
        sent = {k: v for k, v in {**_DEFAULT_HEADERS, **own}.items() if k.lower() not in given}
        http.request(method, target, body or None, {**sent, **(headers or {})})
        with closing(http.getresponse()) as response:
            if clock.is_over:  # what it was cut off in may look like a head
                raise TimeoutError
            clock.next("reading the answer")
            content, is_truncated = _read(response, clock)
        clock.next("")
        return Answer(
            status=response.status,
            headers=response.headers,
            body=content,
            is_truncated=is_truncated,
            seconds=clock.seconds,
            steps=clock.steps,
        )


def certificate_of(url: str, *, patience: float, ca_file: str = "") -> dict[str, Any]:
    """The certificate that the server shows, as `ssl.SSLSocket.getpeercert` gives it.

    Raises `NoAnswerError`, also for one that is not accepted.
    """
    clock = _Clock(patience)
    with _explaining(url, clock), _connected(urlsplit(url), clock, ca_file) as connection:
        secured: Any = connection.http.sock
        return dict(secured.getpeercert())


_DEFAULT_HEADERS = {"User-Agent": "django-smoketest", "Accept": "*/*"}


@dataclass(frozen=True)
class _Connection:
    http: HTTPConnection
    #: The proxy that is asked for the whole address.
    proxy: SplitResult | None


@contextmanager
def _connected(parts: SplitResult, clock: _Clock, ca_file: str) -> Iterator[_Connection]:
    """A connection on which a request may be sent; cut when the time is over, whatever it does."""
    host, is_secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    proxy = _proxy(parts)
    if proxy is None:
        raw = _open(host, port, clock)
    else:
        with _explaining(proxy.geturl(), clock, " (the proxy)"):
            raw = _open(str(proxy.hostname), proxy.port or 80, clock)
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        with suppress(OSError):
            socket.socket.shutdown(raw, socket.SHUT_RDWR)  # also below TLS

    timer = threading.Timer(clock.left, cut)
    timer.daemon = True
    timer.start()
    try:
        if proxy is not None and is_secure:
            _tunnel(raw, host, port, proxy)
        http = HTTPConnection(host, port)
        if is_secure:
            http.default_port = 443  # an HTTPSConnection would read the authorities once more
            clock.next("agreeing on TLS")
            context = ssl.create_default_context(cafile=ca_file or None)
            raw = secured = context.wrap_socket(
                raw,
                server_hostname=host,
                do_handshake_on_connect=False,  # Python 3.11 has no deadline for it: it can be cut
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
    """To the first of the name's addresses that can be reached; each has its share of the time."""
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
    raise problem or OSError("the name has no address")


def _proxy(parts: SplitResult) -> SplitResult | None:
    """As `urllib.request` finds it: by ``HTTPS_PROXY`` and its like, and ``NO_PROXY``."""
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
            msg = f"the proxy {proxy.hostname} does not connect to {where}: {response.status}"
            raise NoAnswerError(msg)


def _read(response: HTTPResponse, clock: _Clock) -> tuple[bytes, bool]:
    """The body, unpacked, and whether more of it was left."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    unpack: Any = None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out which of the two
    content = bytearray()
    while (chunk := response.read(_CHUNK)) and not clock.is_over:  # it may never end
        content += unpack.decompress(chunk, MAX_BODY + 1 - len(content)) if unpack else chunk
        if len(content) > MAX_BODY:
            return bytes(content[:MAX_BODY]), True
    if clock.is_over:
        raise TimeoutError
    if response.length:
        raise IncompleteRead(b"", response.length)
    return bytes(content), False


@contextmanager
def _explaining(url: str, clock: _Clock, what: str = "") -> Iterator[None]:
    """Say what went wrong in the words of the person who can put it right."""
    try:
        yield
    except (OSError, HTTPException, zlib.error) as error:
        explanation = next(say for kinds, say in _EXPLANATIONS if isinstance(error, kinds))
        raise NoAnswerError(explanation(error, url, clock) + what) from None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _explain_certificate(error: Any, url: str, _: _Clock) -> str:
    reason = _VERIFICATION.get(error.verify_code, f"is not accepted: {error.verify_message}")
    return f"the certificate of {_host(url)} {reason}"


def _explain_timeout(_: Any, url: str, clock: _Clock) -> str:
    return (
        f"{_host(url)} has not answered within {clock.seconds:.1f} s; the time was over while"
        f" {clock.step}"
    )


#: By the kind of error, the first that fits.
_EXPLANATIONS: tuple[tuple[Any, Callable[[Any, str, _Clock], str]], ...] = (
    (
        socket.gaierror,
        lambda error, url, _: (
            f"the name of {_host(url)} cannot be resolved ({error.strerror}): look at the DNS"
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
            f"{_host(url)} refuses connections: start what should listen there, or open the"
            " firewall"
        ),
    ),
    (
        (ConnectionError, HTTPException),
        lambda error, url, _: (
            f"{_host(url)} ended the connection too early, or does not speak HTTP"
            f" ({type(error).__name__})"
        ),
    ),
    (zlib.error, lambda _, url, __: f"what {_host(url)} has packed cannot be unpacked"),
    (
        OSError,
        lambda error, url, _: (
            f"{_host(url)} cannot be reached: {error.strerror or type(error).__name__}"
        ),
    ),
)
