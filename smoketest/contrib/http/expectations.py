"""Responses, and the differences between a response and the expectations of its entry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

from django.utils.encoding import iri_to_uri

from smoketest.contrib.http.targets import (
    REDIRECTS,
    Check,
    Text,
    redact_url,
    show_url,
    with_ascii_host,
)

#: Maximum size of a body in bytes, after decompression.
MAX_BODY = 10_000_000
_SHOWN = 200
#: Characters of a body in which an excerpt is looked for, so that whitespace does not count.
MAX_EXCERPT = 10_000


class NoResponseError(AssertionError):
    """No response was received; the message says why and what to do."""


class UnexpectedResponseError(AssertionError):
    """A response does not meet the expectations; the message describes the differences."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A response, from the site itself or over the network."""

    #: URL of the last request, after redirects.
    url: str
    status: int
    headers: Message
    body: bytes
    #: Whether the body is longer than `body`.
    is_truncated: bool
    charset: str
    #: Total duration, including redirects.
    seconds: float
    #: Seconds by step; empty for a path of this site.
    steps: Mapping[str, float]

    @property
    def text(self) -> str:
        try:
            return self.body.decode(self.charset, "replace")
        except (LookupError, ValueError):  # unknown charset, or one that is not for text
            return self.body.decode("utf-8", "replace")


def to_message(headers: Iterable[tuple[str, str]]) -> Message:
    """Return the headers of a response, some of which may occur several times."""
    message = Message()
    for name, value in headers:
        message[name] = value
    return message


def find_problems(check: Check, received: Received) -> Iterator[str]:
    """Yield a description of each expectation that the response does not meet."""
    yield from _status(check, received)
    yield from _redirect(check, received)
    yield from _headers(check, received)
    yield from _texts(check, received)
    yield from _json(check, received)
    if check.max_time is not None and received.seconds > check.max_time:
        steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in received.steps.items())
        took = f"it took {received.seconds:.2f} s, which is more than {check.max_time:g} s"
        yield f"{took} ({steps})" if steps else took


def _status(check: Check, received: Received) -> Iterator[str]:
    if received.status in check.status:
        return
    location = received.headers.get("Location", "")
    is_redirect = received.status in REDIRECTS and location
    target = f" and redirects to {redact_url(location)}" if is_redirect else ""
    excerpt = _excerpt(received) if received.status >= 400 else ""
    yield f"the status is {received.status}{target}, not {_ranges(check.status)}{excerpt}"


def redirect_url(base: str, location: str) -> str:
    """Return the target of a redirect as an absolute, encoded URL.

    Raises `UnexpectedResponseError`.
    """
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()  # servers may send raw UTF-8
    try:
        parts = urlsplit(urljoin(base, location.strip()))
        return str(iri_to_uri(with_ascii_host(parts) if parts.netloc else parts.geturl()))
    except ValueError:
        msg = f"it redirects to an invalid URL: {_short(redact_url(location))}"
        raise UnexpectedResponseError(msg) from None


def _redirect(check: Check, received: Received) -> Iterator[str]:
    if not check.redirect:
        return
    base = received.url if check.is_local else check.url
    expected = redirect_url(base, check.redirect)
    if check.follow:
        if not _is_target(received.url, urldefrag(expected).url):
            last = show_url(received.url)
            yield f"the last redirect leads to {last}, not to {show_url(expected)}"
    elif received.status in REDIRECTS:
        target = redirect_url(base, received.headers.get("Location", ""))
        if not _is_target(target, expected):
            yield f"it redirects to {show_url(target)}, not to {show_url(expected)}"


def _is_target(url: str, expected: str) -> bool:
    """Return whether the URLs are equal; their queries only count if one is expected."""
    if not urlsplit(expected).query:
        url = urlunsplit(urlsplit(url)._replace(query=""))
    return url == expected


def _headers(check: Check, received: Received) -> Iterator[str]:
    for name, wanted in check.response_headers.items():
        values = received.headers.get_all(name, [])  # one Set-Cookie header per cookie
        if wanted is None:
            if values:
                yield f"the response has a header {name}"
        elif not values:
            yield f"the response has no header {name}"
        elif not any(_is_in(wanted, value) for value in values):
            found = _short(values[0] if len(values) == 1 else values)
            yield f"the header {name} is {found}; it does not contain {_quoted(wanted)}"


def _texts(check: Check, received: Received) -> Iterator[str]:
    text = received.text if check.text or check.no_text else ""
    for wanted in check.text:
        if not _is_in(wanted, text):
            part = f"the first {MAX_BODY:,} bytes of " if received.is_truncated else ""
            yield f"{_quoted(wanted)} is not in {part}the body{_excerpt(received)}"
    for unwanted in check.no_text:
        if _is_in(unwanted, text):
            yield f"{_quoted(unwanted)} is in the body"


def _json(check: Check, received: Received) -> Iterator[str]:
    if check.json is None:
        return
    if received.is_truncated:
        yield f"the body is longer than {MAX_BODY:,} bytes and is not parsed as JSON"
        return
    try:
        document = json.loads(received.body)
    except (ValueError, RecursionError):  # or nested too deeply
        yield f"the body is not valid JSON{_excerpt(received)}"
        return
    for path, wanted in check.json.items():
        try:
            value = _at(document, path)
        except LookupError:
            yield f"the JSON has no {path!r}"
            continue
        matches = (
            wanted.search(str(value)) is not None
            if hasattr(wanted, "search")
            else wanted is ... or (value == wanted and isinstance(value, bool) == _is_bool(wanted))
        )
        if not matches:
            yield f"{path!r} of the JSON is {_short(value)}, not {_quoted(wanted)}"


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)  # 1 equals True in Python, not in JSON


def _at(document: Any, path: str) -> Any:
    """Return the value at a path such as ``a.0.b``. Raises `LookupError`."""
    value = document
    for part in path.split("."):
        if isinstance(value, list):
            if not part.isdecimal():
                raise LookupError(path)
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value[part]
        else:
            raise LookupError(path)  # noqa: TRY004 - the path does not exist in the document
    return value


def _is_in(wanted: Text, text: str) -> bool:
    return wanted in text if isinstance(wanted, str) else wanted.search(text) is not None


def _quoted(wanted: Any) -> str:
    return f"/{wanted.pattern}/" if hasattr(wanted, "pattern") else repr(wanted)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _excerpt(received: Received) -> str:
    text = " ".join(received.text[:MAX_EXCERPT].split())
    return f"; the body starts with {_short(text)}" if text else "; the body is empty"


def _ranges(statuses: frozenset[int]) -> str:
    """Return the statuses as ranges, such as ``200-299``."""
    ordered = sorted(statuses)
    spans: list[list[int]] = []
    for status in ordered:
        if spans and spans[-1][1] == status - 1:
            spans[-1][1] = status
        else:
            spans.append([status, status])
    shown_spans = [str(a) if a == b else f"{a}-{b}" for a, b in spans]
    *first, last = shown_spans
    return f"{', '.join(first)} or {last}" if first else last
