"""Send an HTTP request over the network with urllib3.

Every request uses a new connection: a persistent one would hide problems with DNS, the
certificate or the load balancer.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Url, parse_url

from smoketest.contrib.http.deadline import Clock, connect, get_tls_context
from smoketest.contrib.http.expectations import MAX_BODY, NoResponseError, Received, to_message
from smoketest.contrib.http.explain import explain

_HEADERS = {
    "User-Agent": "django-smoketest",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "close",
}
_PORTS = {"http": 80, "https": 443}
#: Beginning of the error of `http.client` if a proxy rejects a CONNECT request.
_REJECTED = "Tunnel connection failed: "


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    time_limit: float,
    ca_file: str = "",
) -> Received:
    """Send a request and return the response. Redirects are not followed.

    The URL must be encoded and have a path. `time_limit` is in seconds and applies to the whole
    request; only name resolution cannot be interrupted. Raises `NoResponseError`.
    """
    clock = Clock(time_limit)
    sent = HTTPHeaderDict(headers)  # ignores the case of names
    for name, value in _HEADERS.items():
        sent.setdefault(name, value)
    with _connected(url, clock, ca_file) as connection:
        target = f"/{url.split('/', 3)[3]}"  # as it is: urllib3 would resolve dot segments
        if connection.proxy and connection.proxy_is_forwarding:
            target = url
            sent.update(_get_authorization(connection.proxy))
        connection.request(method, target, body or None, sent, preload_content=False)
        with closing(connection.getresponse()) as response:
            clock.next("reading the response")
            content = response.read(MAX_BODY + 1)
        clock.next("")
    received = to_message(response.headers.items())
    return Received(
        url=url,
        status=response.status,
        headers=received,
        body=content[:MAX_BODY],
        is_truncated=len(content) > MAX_BODY,
        charset=received.get_content_charset() or "utf-8",
        seconds=clock.seconds,
        steps=clock.steps,
    )


def get_certificate(url: str, *, time_limit: float, ca_file: str = "") -> dict[str, Any]:
    """Return the certificate of the server in the format of `ssl.SSLSocket.getpeercert`.

    Raises `NoResponseError`, also if the certificate is not trusted.
    """
    with _connected(url, Clock(time_limit), ca_file) as connection:
        secured: Any = connection.sock
        return dict(secured.getpeercert())


class _Connection(HTTPConnection):
    """Connection that keeps the deadline."""

    clock: Clock

    def _new_conn(self) -> socket.socket:  # overridden as in urllib3.contrib.socks
        return connect(self._dns_host, self.port, self.clock)


class _SecureConnection(_Connection, HTTPSConnection):
    """TLS connection that keeps the deadline."""


@contextmanager
def _connected(url: str, clock: Clock, ca_file: str) -> Iterator[_Connection]:
    """Open a connection for one request. Raises `NoResponseError`, also for errors in the block."""
    parts = urlsplit(url)
    proxy = _find_proxy(parts)
    host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    peer = (str(proxy.host).strip("[]"), proxy.port or 80) if proxy else (host, port)
    connection: _Connection
    if parts.scheme == "https":
        try:
            context = get_tls_context(ca_file, clock)
        except OSError as error:
            msg = f"the CA certificates in {ca_file} cannot be loaded: {error.strerror or error}"
            raise NoResponseError(msg) from None
        connection = _SecureConnection(*peer, proxy=proxy, ssl_context=context)
        if proxy:
            connection.set_tunnel(host, port, _get_authorization(proxy))
    else:
        connection = _Connection(*peer, proxy=proxy)
    connection.clock = clock
    try:
        connection.connect()
        clock.next("waiting for the response")
        yield connection
    except (OSError, HTTPException, HTTPError) as error:
        explanation = partial(explain, error, step=clock.step, seconds=clock.seconds)
        if proxy is None or clock.step not in {"resolving the name", "connecting"}:
            message = explanation(parts.netloc)
        elif str(error).startswith(_REJECTED):
            status = str(error).removeprefix(_REJECTED)
            message = f"the proxy {proxy.host} does not connect to {host}:{port}: status {status}"
        else:
            message = f"{explanation(str(proxy.netloc))} (the proxy)"
        raise NoResponseError(message) from None
    finally:
        connection.close()


def _find_proxy(url: SplitResult) -> Url | None:
    """Return the proxy for a URL: `urllib.request` reads ``HTTPS_PROXY``, ``NO_PROXY`` etc."""
    proxy = getproxies().get(url.scheme)
    if not proxy or proxy_bypass(url.netloc):
        return None
    with suppress(LocationParseError):
        found = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        if found.scheme == "http" and found.host:
            return found
    raise NoResponseError(  # without the value, which may contain a password
        f"the value of {url.scheme.upper()}_PROXY is not valid: set it to a URL such as"
        " http://proxy.example:3128"
    )


def _get_authorization(proxy: Url) -> dict[str, str]:
    if not proxy.auth:
        return {}
    login = unquote(proxy.auth if ":" in proxy.auth else f"{proxy.auth}:")
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}
