"""Asks a deployed site for a run of its smoke tests, over HTTP."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urlsplit

from smoketest.cli.stability import NoAnswerError
from smoketest.coordination.coordinator import Answer
from smoketest.formats.json import read_report
from smoketest.results import Selection

#: Bytes of an answer that are read at most.
GREATEST_ANSWER = 64 * 2**20
#: Seconds that a run may seem to have begun before the call: times in an answer are rounded.
TOLERANCE = 0.05
#: Characters of an answer that is none of ours, as a message shows them.
SHOWN = 200
#: Bytes of an answer that are read at a time.
CHUNK = 2**16


class _BusyError(NoAnswerError):
    """The site says when it may be asked again."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        #: Seconds.
        self.retry_after = retry_after


class RefusedError(Exception):
    """The site refuses the question, and would do so again; the message says why."""


class NothingMatchesError(Exception):
    """The site has no such test; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSite:
    """Where the smoke tests of a site are, and what lets us in."""

    #: Of the page, such as ``https://shop.example/smoketest/``.
    url: str
    token: str = ""

    def run(self, selection: Selection, *, failfast: bool, timeout: float) -> Answer:
        """Have it run the tests, and return the report of a run that began after this call.

        It waits for `timeout` seconds at most; a site that is busy is asked again when it says.
        Raises `RefusedError`, `NothingMatchesError`, or `NoAnswerError` if a retry may help.
        """
        ends_at = time.monotonic() + timeout
        while True:
            try:
                left = max(0.001, ends_at - time.monotonic())  # a socket takes no less
                return self._ask(selection, failfast, left)
            except _BusyError as busy:
                if busy.retry_after > timeout:  # such as the end of a pause
                    raise
                if time.monotonic() + busy.retry_after > ends_at:
                    raise NoAnswerError(str(busy), is_timeout=True) from None
                time.sleep(busy.retry_after)

    def _ask(self, selection: Selection, failfast: bool, timeout: float) -> Answer:
        called_at = time.monotonic()
        status, headers, body = self._get(_address(self.url, selection, failfast), timeout)
        elapsed = time.monotonic() - called_at
        values = _object(body)
        if status in {200, 500} and "status" in values:
            return self._answer(values, selection, elapsed)
        said = str(values.get("error", "")) or _shown(body)
        match status:
            case 401 | 403:
                hint = "is not one of its SMOKETEST_TOKENS" if self.token else "is missing"
                raise RefusedError(
                    f"{self.url} answered {status}: the token {hint}. Give it as --token or"
                    " $SMOKETEST_TOKEN."
                )
            case 404 if "error" in values:
                raise NothingMatchesError(said)
            case 400:
                raise RefusedError(f"{self.url} answered 400: {said}")
            case 301 | 302 | 303 | 307 | 308:
                raise RefusedError(
                    f"{self.url} leads to {headers.get('Location', '')}. Give the address where"
                    " the smoke tests are: a token is sent nowhere else."
                )
            case 404:
                raise NoAnswerError(
                    f"{self.url} answered 404: there are no smoke tests at this address. Give that"
                    " of the page, such as https://shop.example/smoketest/."
                )
        message = f"{self.url} answered {status}: {said}"
        if (retry_after := headers.get("Retry-After", "")).isdecimal():
            raise _BusyError(message, max(1.0, float(retry_after)))
        raise NoAnswerError(message)

    def _answer(self, values: Mapping[str, Any], selection: Selection, elapsed: float) -> Answer:
        try:
            report = read_report(values, selection)
        except ValueError as error:
            msg = f"What {self.url} answered is {error}."
            raise RefusedError(msg) from error
        if pause := values.get("paused"):
            msg = f"The runs of {self.url} are paused until {pause['until']} ({pause['reason']})."
            raise NoAnswerError(msg)
        # Without a look at two clocks: the run must fit into the time since the call.
        age = float(values["age"])
        if age + report.duration > elapsed + TOLERANCE:
            msg = f"{self.url} answered with a run that had begun before it was asked."
            raise NoAnswerError(msg)
        return Answer(report=report, age=age)

    def _get(self, url: str, timeout: float) -> tuple[int, Message, bytes]:
        headers = {"Accept": "application/json", "Cache-Control": "no-cache"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - see check_url
        opener = urllib.request.build_opener(_AsItComes)
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, response.headers, _read(response, timeout)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                msg = f"{self.url} did not answer within {timeout:.3g} s."
                raise NoAnswerError(msg, is_timeout=True) from error
            msg = f"{self.url} cannot be asked: {reason or type(reason).__name__}"
            raise NoAnswerError(msg) from error


def check_url(url: str) -> str:
    """The address, if it may be asked. Raises `ValueError` with what is allowed."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    is_writable = url.isascii() and url.isprintable() and " " not in url
    if not is_writable:
        msg = f"{url!r} holds other than ASCII, or a space; write it as a browser copies it"
        raise ValueError(msg)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        msg = (
            f"{url!r} is no address of smoke tests, such as https://shop.example/smoketest/, to"
            " which options add which tests to run"
        )
        raise ValueError(msg)
    if parts.username or parts.password:
        msg = "an address with a password would be shown in messages; give a --token"
        raise ValueError(msg)
    return url if parts.path.endswith("/") else f"{url}/"


class _AsItComes(urllib.request.HTTPErrorProcessor):
    """Raises nothing for a status, and follows no redirect: the token would be sent along."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


def _read(response: http.client.HTTPResponse, timeout: float) -> bytes:
    """All of it, within the time, of which a socket knows only for each of its reads."""
    ends_at = time.monotonic() + timeout
    body = bytearray()
    while len(body) < GREATEST_ANSWER and (chunk := response.read1(CHUNK)):
        body += chunk
        if time.monotonic() > ends_at:
            raise TimeoutError
    return bytes(body)


def _address(url: str, selection: Selection, failfast: bool) -> str:
    query = [*selection.parameters(), *([("failfast", "1")] if failfast else [])]
    return f"{url}?{urlencode(query)}" if query else url


def _object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    try:
        values = json.loads(body)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _shown(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
