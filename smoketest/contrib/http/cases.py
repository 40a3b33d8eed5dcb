"""What is tested of each entry of ``SMOKETEST_HTTP_CHECKS``.

The classes that are run stand in the smoke module, one for each entry.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message
from http import HTTPStatus
from time import monotonic, time
from typing import Any, ClassVar, Protocol
from urllib.parse import urldefrag, urlsplit

from asgiref.sync import async_to_sync

from smoketest.case import SmokeTest, options
from smoketest.conf import conf as package_conf
from smoketest.contrib.http.conf import HttpConf, conf
from smoketest.contrib.http.expectations import Received, UnexpectedAnswerError, address, complaints
from smoketest.contrib.http.fetching import MAX_BODY, NoAnswerError, certificate_of, fetch
from smoketest.contrib.http.targets import PATIENCE, REDIRECTS, Check, shown
from smoketest.coordination.redaction import Redactor
from smoketest.results import utc

MAX_REDIRECTS = 10
_DAY = 86_400


class _Ask(Protocol):
    """Sends one request, and gives what came of it."""

    def __call__(
        self, url: str, method: str, *, body: bytes, is_at_home: bool, patience: float
    ) -> Received: ...


class UrlTest(SmokeTest):
    """Asks for one URL."""

    check: ClassVar[Check]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Name the URL in what goes wrong, and hide the secrets of the request."""
        hide = Redactor(self.check.secrets)
        try:
            yield
        except (NoAnswerError, UnexpectedAnswerError) as error:
            message = hide(f"{self.check.method} {shown(self.check.url)}: {error}")
            raise self.failureException(message) from None  # the original says it all

    def _test(self, ask: _Ask) -> None:
        with self._telling():
            received = _follow(self.check, ask, self._patience)
            if problems := list(complaints(self.check, received)):
                raise UnexpectedAnswerError("; ".join(problems))

    @property
    def _patience(self) -> float:
        """Seconds that all requests of a test may take together."""
        return PATIENCE * (self.timeout or package_conf.timeout)


class PageTest(UrlTest):
    """Asks this site, in process, in a transaction that is rolled back."""

    def test_answers(self) -> None:
        """The page of this site answers as SMOKETEST_HTTP_CHECKS says.

        It is asked in process, through the middleware, so that this says nothing of the web
        server, the network and TLS in front of it.
        """
        self.client.raise_request_exception = (
            HTTPStatus.INTERNAL_SERVER_ERROR not in self.check.status
        )
        self._test(self._ask)

    def _ask(
        self, url: str, method: str, *, body: bytes, is_at_home: bool, patience: float
    ) -> Received:
        if not is_at_home:
            raise UnexpectedAnswerError(
                f"it leads to {shown(url)}, which is another host, and is not followed there."
                " Expect it as 'redirect' without 'follow', and give that address an entry."
            )
        began = monotonic()
        headers = dict(self.check.headers)
        kind = _pop(headers, "Content-Type") or "application/octet-stream"
        response: Any = self.client.generic(method, url, body, kind, headers=headers)
        content, is_truncated = _content(response, began + patience)
        return Received(
            url=response.wsgi_request.build_absolute_uri(),
            status=response.status_code,
            headers=_headers(response),
            body=content,
            is_truncated=is_truncated,
            charset=response.charset or "utf-8",
            seconds=monotonic() - began,
            steps={},
        )


class AddressTest(UrlTest):
    """Asks a server over the network."""

    databases = ()

    def test_answers(self) -> None:
        """The address answers as SMOKETEST_HTTP_CHECKS says.

        It is asked over the network, as by a browser, over a new connection each time.
        """
        self._test(self._ask)

    def _ask(
        self, url: str, method: str, *, body: bytes, is_at_home: bool, patience: float
    ) -> Received:
        answer = fetch(
            url,
            method=method,
            headers=self.check.headers if is_at_home else {},
            body=body,
            patience=patience,
            ca_file=self.check.ca_file,
        )
        return Received(
            url=url,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            is_truncated=answer.is_truncated,
            charset=answer.headers.get_content_charset() or "utf-8",
            seconds=answer.seconds,
            steps=answer.steps,
        )


class SecureAddressTest(AddressTest):
    """Asks a server by HTTPS."""

    @options(severity="warning", every=3600)
    def test_certificate(self) -> None:
        """The certificate of the server is accepted, and is valid for some days yet.

        It fails while there is time to renew the certificate, before any visitor is refused.
        """
        days = self.check.certificate_days
        if days is None:
            days = conf.certificate_days
        with self._telling():
            certificate = certificate_of(
                self.check.url, patience=self._patience, ca_file=self.check.ca_file
            )
            ends = ssl.cert_time_to_seconds(certificate["notAfter"])
            left = (ends - time()) / _DAY
            if left < days:
                raise UnexpectedAnswerError(
                    f"the certificate is valid until {utc(ends)}, {left:.1f} days yet, less than"
                    f" {days:g}: renew it, and reload the server that shows it (or change"
                    f" 'certificate_days' of the entry or {HttpConf.certificate_days.name})"
                )


def case_of(check: Check) -> type[UrlTest]:
    """The class whose tests the check needs."""
    if check.is_of_this_site:
        return PageTest
    return SecureAddressTest if check.url.startswith("https:") else AddressTest


def attributes_of(check: Check) -> dict[str, Any]:
    """What the entry says of its tests."""
    timeout = check.timeout
    if timeout is None and check.max_time and check.max_time >= package_conf.timeout * PATIENCE:
        timeout = check.max_time / PATIENCE + 1  # a slow answer is measured, not cut off
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


def _follow(check: Check, ask: _Ask, patience: float) -> Received:
    """The answer, or that at the end of the redirects.

    Headers and body are sent to the host of the check alone, whatever it says.
    """
    began, url, method, body = monotonic(), check.url, check.method, check.body
    home = _origin(url)
    visited: list[str] = []
    while True:
        left = max(began + patience - monotonic(), 0.001)
        received = ask(url, method, body=body, is_at_home=_origin(url) == home, patience=left)
        home = home if home[1] else _origin(received.url)
        visited.append(shown(received.url))
        location = received.headers.get("Location", "")
        if not check.follow or received.status not in REDIRECTS or not location:
            steps = {} if len(visited) > 1 else received.steps
            return replace(received, seconds=monotonic() - began, steps=steps)
        url = urldefrag(address(received.url, location)).url
        if len(visited) > MAX_REDIRECTS:
            raise UnexpectedAnswerError(
                f"more than {MAX_REDIRECTS} redirects: {' -> '.join(visited)}"
            )
        if urlsplit(url).scheme not in {"http", "https"}:
            raise UnexpectedAnswerError(f"it leads to {shown(url)}, which is no page")
        if received.status == HTTPStatus.SEE_OTHER or (received.status < 303 and method == "POST"):
            method, body = "HEAD" if method == "HEAD" else "GET", b""
        if body and _origin(url) != home:
            raise UnexpectedAnswerError(f"it leads to {shown(url)}, where its body is not sent")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _pop(headers: dict[str, str], wanted: str) -> str:
    for name in headers:
        if name.lower() == wanted.lower():
            return headers.pop(name)
    return ""


def _headers(response: Any) -> Message:
    """As a server would send them: Django keeps the cookies elsewhere."""
    headers = Message()
    for name, value in response.headers.items():
        headers[name] = value
    for cookie in response.cookies.values():
        headers["Set-Cookie"] = cookie.OutputString()
    return headers


def _content(response: Any, deadline: float) -> tuple[bytes, bool]:
    """What of the content can be read until the deadline, and whether more was left."""
    if not response.streaming:
        return response.content[:MAX_BODY], len(response.content) > MAX_BODY
    content = bytearray()

    def is_enough(chunk: bytes) -> bool:
        content.extend(chunk)
        return len(content) > MAX_BODY or monotonic() > deadline

    async def read() -> bool:
        async for chunk in response.streaming_content:
            if is_enough(chunk):
                return True
        return False

    is_truncated = (
        async_to_sync(read)()
        if response.is_async
        else any(is_enough(chunk) for chunk in response.streaming_content)
    )
    return bytes(content[:MAX_BODY]), is_truncated
