"""Whether an answer is what its check expects, in words for whoever is woken by it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urldefrag, urljoin

from django.utils.encoding import iri_to_uri

from smoketest.contrib.http.fetching import MAX_BODY
from smoketest.contrib.http.targets import REDIRECTS, Check, Text, shown

_SHOWN = 200


class UnexpectedAnswerError(AssertionError):
    """An answer is not what its check expects; the message tells how it differs."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """An answer, however it came."""

    #: The address that was asked for in the end.
    url: str
    status: int
    headers: Message
    body: bytes
    is_truncated: bool
    charset: str
    #: Of the whole check, with the redirects that were followed.
    seconds: float
    steps: Mapping[str, float]

    @property
    def text(self) -> str:
        try:
            return self.body.decode(self.charset, "replace")
        except LookupError:  # no such charset
            return self.body.decode("utf-8", "replace")


def complaints(check: Check, received: Received) -> Iterator[str]:
    """What is wrong; nothing if all is well."""
    yield from _status(check, received)
    yield from _redirect(check, received)
    yield from _headers(check, received)
    yield from _texts(check, received)
    yield from _json(check, received)
    if check.max_time is not None and received.seconds > check.max_time:
        steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in received.steps.items())
        took = f"it took {received.seconds:.2f} s, more than {check.max_time:g} s"
        yield f"{took} ({steps})" if steps else took


def _status(check: Check, received: Received) -> Iterator[str]:
    if received.status in check.status:
        return
    location = received.headers.get("Location", "")
    leads = f" and leads to {shown(location)}" if received.status in REDIRECTS and location else ""
    begins = _beginning(received) if received.status >= 400 else ""
    yield f"the status is {received.status}{leads}, not {_ranges(check.status)}{begins}"


def address(base: str, location: str) -> str:
    """Where a redirect leads, written as a browser would ask for it."""
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()  # servers send UTF-8 as it is
    return str(iri_to_uri(urljoin(base, location.strip())))


def _redirect(check: Check, received: Received) -> Iterator[str]:
    if not check.redirect:
        return
    base = received.url if check.is_of_this_site else check.url
    expected = str(iri_to_uri(urljoin(base, check.redirect)))
    if check.follow:
        if received.url != urldefrag(expected).url:
            yield f"its redirects end at {shown(received.url)}, not at {shown(expected)}"
    elif received.status in REDIRECTS:
        leads = address(base, received.headers.get("Location", ""))
        if leads != expected:
            yield f"it leads to {shown(leads)}, not to {shown(expected)}"


def _headers(check: Check, received: Received) -> Iterator[str]:
    for name, wanted in check.response_headers.items():
        values = received.headers.get_all(name, [])  # Set-Cookie stands once for each
        if wanted is None:
            if values:
                yield f"there is a header {name}"
        elif not values:
            yield f"there is no header {name}"
        elif not any(_is_in(wanted, value) for value in values):
            found = _short(values[0] if len(values) == 1 else values)
            yield f"the header {name} is {found}, without {_quoted(wanted)}"


def _texts(check: Check, received: Received) -> Iterator[str]:
    text = received.text if check.text or check.no_text else ""
    for wanted in check.text:
        if not _is_in(wanted, text):
            where = f"its first {MAX_BODY:,} bytes" if received.is_truncated else "it"
            yield f"{_quoted(wanted)} is not in {where}{_beginning(received)}"
    for unwanted in check.no_text:
        if _is_in(unwanted, text):
            yield f"{_quoted(unwanted)} is in it"


def _json(check: Check, received: Received) -> Iterator[str]:
    if check.json is None:
        return
    if received.is_truncated:
        yield f"it is longer than {MAX_BODY:,} bytes, so that it is not read as JSON"
        return
    try:
        document = json.loads(received.body)
    except ValueError:
        yield f"it is no JSON{_beginning(received)}"
        return
    for path, wanted in check.json.items():
        try:
            value = _at(document, path)
        except LookupError:
            yield f"its JSON has no {path!r}"
            continue
        is_right = (
            wanted.search(str(value)) is not None
            if hasattr(wanted, "search")
            else wanted is ... or (value == wanted and isinstance(value, bool) == _is_bool(wanted))
        )
        if not is_right:
            yield f"{path!r} of its JSON is {_short(value)}, not {_quoted(wanted)}"


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)  # for Python 1 is True, for JSON it is not


def _at(document: Any, path: str) -> Any:
    """What is at ``a.0.b``. Raises `LookupError`."""
    value = document
    for part in path.split("."):
        if isinstance(value, list):
            if not part.isdecimal():
                raise LookupError(path)
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value[part]
        else:
            raise LookupError(path)  # noqa: TRY004 - the document is as it is
    return value


def _is_in(wanted: Text, text: str) -> bool:
    return wanted in text if isinstance(wanted, str) else wanted.search(text) is not None


def _quoted(wanted: Any) -> str:
    return f"/{wanted.pattern}/" if hasattr(wanted, "pattern") else repr(wanted)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _beginning(received: Received) -> str:
    text = " ".join(received.text[: 4 * _SHOWN].split())
    return f"; it begins with {_short(text[:_SHOWN])}" if text else "; it is empty"


def _ranges(statuses: frozenset[int]) -> str:
    """``200-299`` rather than a hundred numbers."""
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
