"""Test classes for the entries of ``SMOKETEST_HTTP_CHECKS``.

The smoke module defines a subclass for each entry.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from time import monotonic, time
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import urldefrag, urlsplit

from asgiref.sync import async_to_sync

from smoketest.case import SmokeTest, options
from smoketest.conf import conf as package_conf
from smoketest.contrib.http.checks import INSTALL, describe_missing_client
from smoketest.contrib.http.conf import HttpConf, conf
from smoketest.contrib.http.expectations import (
    MAX_BODY,
    NoResponseError,
    Received,
    UnexpectedResponseError,
    find_problems,
    redirect_url,
    to_message,
)
from smoketest.contrib.http.targets import REDIRECTS, TIME_SHARE, Check, redact_url
from smoketest.coordination.redaction import Redactor
from smoketest.results import utc

if not describe_missing_client():
    from smoketest.contrib.http.fetching import fetch, get_certificate

MAX_REDIRECTS = 10
_DAY = 86_400


class _Send(Protocol):
    """Function that sends one request and returns the response."""

    def __call__(
        self, url: str, method: str, *, body: bytes, is_same_origin: bool, time_limit: float
    ) -> Received: ...


class UrlTest(SmokeTest):
    """Base class of the tests of one URL."""

    check: ClassVar[Check]

    @contextmanager
    def _describe_errors(self) -> Iterator[None]:
        """Add the URL to the error message, and redact the secrets of the request."""
        hide = Redactor(self.check.secrets)
        try:
            yield
        except (NoResponseError, UnexpectedResponseError) as error:
            message = hide(f"{self.check.method} {redact_url(self.check.url)}: {error}")
            raise self.failureException(message) from None  # the cause may contain secrets

    def _test(self, send: _Send) -> None:
        with self._describe_errors():
            received = _follow(self.check, send, self._time_limit)
            if problems := list(find_problems(self.check, received)):
                raise UnexpectedResponseError("; ".join(problems))

    @property
    def _time_limit(self) -> float:
        """Seconds for all requests of a test, including redirects."""
        return TIME_SHARE * (self.timeout or package_conf.timeout)


class PageTest(UrlTest):
    """Tests of a path of this site, requested in process; its transaction is rolled back."""

    def test_answers(self) -> None:
        """The page of this site responds as specified in SMOKETEST_HTTP_CHECKS.

        The request is handled in process, including the middleware. The web server, the network
        and TLS are not tested.
        """
        self.client.raise_request_exception = (
            HTTPStatus.INTERNAL_SERVER_ERROR not in self.check.status
        )
        self._test(self._send)

    def _send(
        self, url: str, method: str, *, body: bytes, is_same_origin: bool, time_limit: float
    ) -> Received:
        started = monotonic()
        headers = dict(self.check.headers)
        kind = _pop(headers, "Content-Type") or "application/octet-stream"
        response: Any = self.client.generic(method, url, body, kind, headers=headers)
        cookies = [("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()]
        content, is_truncated = _content(response, started + time_limit)
        return Received(
            url=response.wsgi_request.build_absolute_uri(),
            status=response.status_code,
            headers=to_message([*response.headers.items(), *cookies]),
            body=content,
            is_truncated=is_truncated,
            charset=response.charset or "utf-8",
            seconds=monotonic() - started,
            steps={},
        )


class AddressTest(UrlTest):
    """Tests of a URL that is requested over the network."""

    databases = ()

    def setUp(self) -> None:
        if missing := describe_missing_client():
            self.fail(f"{missing} {INSTALL}")

    def test_answers(self) -> None:
        """The URL responds as specified in SMOKETEST_HTTP_CHECKS.

        The request is sent over the network, on a new connection each time.
        """
        self._test(self._send)

    def _send(
        self, url: str, method: str, *, body: bytes, is_same_origin: bool, time_limit: float
    ) -> Received:
        return fetch(
            url,
            method=method,
            headers=self.check.headers if is_same_origin else {},
            body=body,
            time_limit=time_limit,
            ca_file=self.check.ca_file,
        )


class SecureAddressTest(AddressTest):
    """Tests of an HTTPS URL."""

    @options(severity="warning", every=3600)
    def test_certificate(self) -> None:
        """The certificate of the server is trusted and does not expire soon.

        The test fails while there is still time to renew the certificate.
        """
        days = self.check.certificate_days
        if days is None:
            days = conf.certificate_days
        with self._describe_errors():
            certificate = get_certificate(
                self.check.url, time_limit=self._time_limit, ca_file=self.check.ca_file
            )
            ends = ssl.cert_time_to_seconds(certificate["notAfter"])
            left = (ends - time()) / _DAY
            if left < days:
                raise UnexpectedResponseError(
                    f"the certificate expires on {utc(ends)}, in {left:.1f} days, which is less"
                    f" than {days:g}: renew it and reload the server, or change"
                    f" 'certificate_days' of the entry or {HttpConf.certificate_days.name}"
                )


def get_test_class(check: Check) -> type[UrlTest]:
    """Return the base class for the tests of an entry."""
    if check.is_local:
        return PageTest
    return SecureAddressTest if check.url.startswith("https:") else AddressTest


def get_test_attributes(check: Check) -> dict[str, Any]:
    """Return the class attributes for the tests of an entry."""
    timeout = check.timeout
    if timeout is None and check.max_time and check.max_time >= package_conf.timeout * TIME_SHARE:
        timeout = check.max_time / TIME_SHARE + 1  # long enough to measure a slow response
    return {
        "check": check,
        "severity": check.severity,
        "timeout": timeout,
        "slow_after": check.slow_after,
        "every": check.every,
        "maintainer": check.maintainer,
        "runbook_url": check.runbook_url,
        "tags": {"http", *check.tags},
    }


def _follow(check: Check, send: _Send, time_limit: float) -> Received:
    """Send the request, follow its redirects if the entry says so, and return the last response.

    The headers and body of the entry are sent only to its own origin.
    """
    started, url, method, body = monotonic(), check.url, check.method, check.body
    origin = None if check.is_local else _origin(url)
    visited: list[str] = []
    while True:
        left = max(started + time_limit - monotonic(), 0.001)
        is_same_origin = origin in {None, _origin(url)}
        received = send(url, method, body=body, is_same_origin=is_same_origin, time_limit=left)
        origin = origin or _origin(received.url)
        visited.append(redact_url(received.url))
        location = received.headers.get("Location", "")
        if not check.follow or received.status not in REDIRECTS or not location:
            steps = {} if len(visited) > 1 else received.steps
            return replace(received, seconds=monotonic() - started, steps=steps)
        url = urldefrag(redirect_url(received.url, location)).url
        if len(visited) > MAX_REDIRECTS:
            raise UnexpectedResponseError(
                f"more than {MAX_REDIRECTS} redirects: {' -> '.join(visited)}"
            )
        if urlsplit(url).scheme not in {"http", "https"}:
            raise UnexpectedResponseError(
                f"it redirects to {redact_url(url)}, which is not an HTTP URL"
            )
        if check.is_local and _origin(url) != origin:
            raise UnexpectedResponseError(
                f"it redirects to {redact_url(url)} {_describe_change(origin, _origin(url))}"
            )
        if received.status == HTTPStatus.SEE_OTHER or (received.status < 303 and method == "POST"):
            method, body = "HEAD" if method == "HEAD" else "GET", b""
        if body and _origin(url) != origin:
            raise UnexpectedResponseError(
                f"it redirects to {redact_url(url)}, to which the body is not sent"
            )


class _Origin(NamedTuple):
    """Origin of a URL (RFC 6454, section 4)."""

    scheme: str
    host: str
    port: int


def _origin(url: str) -> _Origin:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _Origin(parts.scheme, parts.hostname or "", port)


def _describe_change(origin: _Origin, other: _Origin) -> str:
    """Return how a redirect leaves the origin of this site, and what to do."""
    advice = "Set 'redirect' without 'follow', and add an entry for that URL."
    if origin.host != other.host:
        where = "on another host"
    elif origin.scheme == other.scheme:
        where = "on another port of the same host"
    else:
        where = f"on the same host, but over {other.scheme.upper()}"
        if other.scheme == "https":
            advice = (
                "If the whole site uses HTTPS, set SMOKETEST_PUBLIC_URL to its https:// URL. If"
                " not, set 'redirect' without 'follow', and add an entry for that URL."
            )
    return f"{where}, which is not followed. {advice}"


def _pop(headers: dict[str, str], wanted: str) -> str:
    for name in headers:
        if name.lower() == wanted.lower():
            return headers.pop(name)
    return ""


def _content(response: Any, deadline: float) -> tuple[bytes, bool]:
    """Read the content until the deadline or `MAX_BODY`; return it and whether it is truncated."""
    if not response.streaming:
        return response.content[:MAX_BODY], len(response.content) > MAX_BODY
    content = bytearray()

    def is_last(chunk: bytes) -> bool:
        content.extend(chunk)
        return len(content) > MAX_BODY or monotonic() > deadline

    async def read() -> bool:
        async for chunk in response.streaming_content:
            if is_last(chunk):
                return True
        return False

    is_truncated = (
        async_to_sync(read)()
        if response.is_async
        else any(is_last(chunk) for chunk in response.streaming_content)
    )
    return bytes(content[:MAX_BODY]), is_truncated
