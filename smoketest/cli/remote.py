"""HTTP client that makes a deployed site run its smoke tests."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from email.message import Message
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

from smoketest.cli.stability import NoAnswerError
from smoketest.coordination.coordinator import Answer
from smoketest.formats.json import read_report
from smoketest.results import Selection
from smoketest.runner.failures import escape_controls

#: Maximum size of a response, in bytes.
GREATEST_ANSWER = 64 * 2**20
#: Seconds that a run may appear to have started before the request, because times are rounded.
TOLERANCE = 0.05
#: Maximum number of characters of an unexpected response in a message.
SHOWN = 200
#: Bytes per read.
CHUNK = 2**16
#: Status, headers and body.
_Response = tuple[int, Message, bytes]


class _BusyError(NoAnswerError):
    """The response has a ``Retry-After`` header."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        #: Seconds after which to repeat the request.
        self.retry_after = retry_after


class RefusedError(Exception):
    """The site rejected the request, and a retry would not help."""


class NothingMatchesError(Exception):
    """The selection matches no test of the site; the message is that of the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSite:
    """The URL and the token of a deployed site."""

    #: URL of the smoke test page, such as ``https://shop.example/smoketest/``.
    url: str
    token: str = ""

    def run(self, selection: Selection, *, failfast: bool, timeout: float) -> Answer:
        """Request a run, and return the report of a run that started after this call.

        `timeout` is in seconds and includes retries: if the site is busy, the request is repeated
        after the time in its ``Retry-After`` header.

        Raise `RefusedError`, `NothingMatchesError`, or `NoAnswerError` if a retry may help.
        """
        ends_at = time.monotonic() + timeout
        while True:
            try:
                # A socket timeout must be positive.
                remaining = max(0.001, ends_at - time.monotonic())
                return self._request(selection, failfast, remaining)
            except _BusyError as busy:
                if busy.retry_after > timeout:  # such as the end of a pause
                    raise
                if time.monotonic() + busy.retry_after > ends_at:
                    raise NoAnswerError(str(busy), is_timeout=True) from None
                time.sleep(busy.retry_after)

    def _request(self, selection: Selection, failfast: bool, timeout: float) -> Answer:
        started_at = time.monotonic()
        status, headers, body = self._get(_address(self.url, selection, failfast), timeout)
        elapsed = time.monotonic() - started_at
        values = _object(body)
        if status in {200, 500} and "status" in values:
            return self._answer(values, selection, elapsed)
        detail = escape_controls(str(values.get("error", ""))) or _truncated(body)
        location = headers.get("Location", "")
        match status:
            case 401 | 403:
                hint = "is not one of its SMOKETEST_TOKENS" if self.token else "is missing"
                raise RefusedError(
                    f"{self.url} returned {status}: the token {hint}. Set the environment variable"
                    " SMOKETEST_TOKEN or use --token."
                )
            case 404 if "error" in values:
                raise NothingMatchesError(detail)
            case 400:
                raise RefusedError(f"{self.url} returned 400: {detail}")
            case 301 | 302 | 303 | 307 | 308:
                raise RefusedError(
                    f"{self.url} redirects to {escape_controls(location)}. Use the URL of the"
                    " smoke tests; redirects are not followed, because they would expose the token."
                )
            case 404:
                raise NoAnswerError(
                    f"{self.url} returned 404: there are no smoke tests at this URL. Use the URL of"
                    " the smoke test page, such as https://shop.example/smoketest/."
                )
        message = f"{self.url} returned {status}: {detail}"
        if (retry_after := headers.get("Retry-After", "")).isdecimal():
            raise _BusyError(message, max(1.0, float(retry_after)))
        raise NoAnswerError(message)

    def _answer(self, values: Mapping[str, Any], selection: Selection, elapsed: float) -> Answer:
        try:
            report = read_report(values, selection)
        except ValueError as error:
            msg = f"The response of {self.url} is {error}."
            raise RefusedError(msg) from error
        if pause := values.get("paused"):
            details = escape_controls(f"{pause['until']} ({pause['reason']})")
            msg = f"Runs of {self.url} are paused until {details}."
            raise NoAnswerError(msg)
        # Durations are compared, because the clocks of the two hosts may differ.
        age = float(values["age"])
        if age + report.duration > elapsed + TOLERANCE:
            msg = f"{self.url} returned a run that started before the request."
            raise NoAnswerError(msg)
        return Answer(report=report, age=age)

    def _get(self, url: str, timeout: float) -> _Response:
        headers = {"Accept": "application/json", "Cache-Control": "no-cache"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - see check_url
        try:
            return _within(timeout, lambda: _send(request, timeout))
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                msg = f"{self.url} did not respond within {timeout:.3g} s."
                raise NoAnswerError(msg, is_timeout=True) from error
            msg = f"{self.url} cannot be reached: {reason or type(reason).__name__}"
            raise NoAnswerError(msg) from error


def check_url(url: str) -> str:
    """Return the URL, with a slash at its end. Raise `ValueError` if it is invalid."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    is_encoded = url.isascii() and url.isprintable() and " " not in url
    if not is_encoded:
        msg = f"{url!r} contains spaces or non-ASCII characters; percent-encode them"
        raise ValueError(msg)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        msg = (
            f"{url!r} is not a valid URL; use that of the smoke test page, such as"
            " https://shop.example/smoketest/, and select tests with options"
        )
        raise ValueError(msg)
    if parts.username or parts.password:
        msg = "the URL contains a password, which messages would display; use a --token instead"
        raise ValueError(msg)
    return url if parts.path.endswith("/") else f"{url}/"


class _RawResponses(urllib.request.HTTPErrorProcessor):
    """Return all responses, without errors, and without redirects, which would get the token."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


def _within(seconds: float, send: Callable[[], _Response]) -> _Response:
    """Return what `send` returns, or raise `TimeoutError`.

    `send` runs in a thread, because the timeout of a socket only limits each read, and name
    resolution has none. At the timeout, the thread is abandoned; the command does not wait for it.
    """
    response: Future[_Response] = Future()

    def run() -> None:
        try:
            response.set_result(send())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            response.set_exception(error)

    Thread(target=run, daemon=True).start()
    return response.result(seconds)


def _send(request: urllib.request.Request, timeout: float) -> _Response:
    ends_at = time.monotonic() + timeout
    opener = urllib.request.build_opener(_RawResponses)
    with opener.open(request, timeout=timeout) as response:
        body = bytearray()
        while len(body) < GREATEST_ANSWER and (chunk := response.read1(CHUNK)):
            body += chunk
            if time.monotonic() > ends_at:  # _within() has returned
                raise TimeoutError
        return response.status, response.headers, bytes(body)


def _address(url: str, selection: Selection, failfast: bool) -> str:
    query = [*selection.parameters(), *([("failfast", "1")] if failfast else [])]
    return f"{url}?{urlencode(query)}" if query else url


def _object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a response, or an empty one if there is none."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return {}
    return values if isinstance(values, dict) else {}


def _truncated(body: bytes) -> str:
    text = escape_controls(" ".join(body[: 4 * SHOWN].decode(errors="replace").split()))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
