"""Parse and validate the entries of ``SMOKETEST_HTTP_CHECKS``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from django.utils.encoding import iri_to_uri

from smoketest.contrib.http.conf import DAYS
from smoketest.results import Severity
from smoketest.validators import (
    BOOLEAN,
    POSITIVE_SECONDS,
    SECONDS,
    STRING,
    Validator,
    choice,
    did_you_mean,
    string,
    strings,
)

#: A string or pattern to search for.
Text = str | re.Pattern[str]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Share of the test's timeout that requests may take; the rest is for reporting the failure.
TIME_SHARE = 0.9
SUCCESSES = frozenset(range(200, 300))

#: Request headers whose values are not redacted.
_HARMLESS = frozenset({
    "accept", "accept-encoding", "accept-language", "cache-control", "content-type", "host",
    "user-agent",
})  # fmt: skip
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class InvalidEntryError(ValueError):
    """An entry is invalid; the message says what is allowed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Check:
    """A request and its expected response: the parsed form of an entry."""

    url: str
    name: str = ""
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    status: frozenset[int] = SUCCESSES
    text: tuple[Text, ...] = ()
    no_text: tuple[Text, ...] = ()
    json: Mapping[str, Any] | None = None
    response_headers: Mapping[str, Text | None] = field(default_factory=dict)
    #: Expected target of the redirect; with `follow`, of the last redirect.
    redirect: str = ""
    follow: bool = False
    #: Maximum duration in seconds, including redirects.
    max_time: float | None = None
    certificate_days: float | None = None
    #: Path of a file with CA certificates to trust instead of the system's.
    ca_file: str = ""
    severity: str = Severity.CRITICAL
    timeout: float | None = None
    slow_after: float | None = None
    every: float = 0
    maintainer: str = ""
    runbook_url: str = ""
    tags: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        return self.url.startswith("/")

    @property
    def secrets(self) -> set[str]:
        """Parts of the request to redact."""
        found = {
            part
            for name, value in self.headers.items()
            if name.lower() not in _HARMLESS
            for part in (value, *value.split())
        }
        query, body = urlsplit(self.url).query, self.body.decode("utf-8", "replace")
        for form in (query, body):
            found |= {form, *(pair.partition("=")[2] for pair in form.split("&"))}
            found |= {value for _, value in parse_qsl(form)}  # as the server decodes them
        with suppress(ValueError):
            found |= set(_texts_in(json.loads(body)))
        return found - {""}


def _texts_in(document: Any) -> Iterator[str]:
    """Yield the strings in a JSON document, except keys."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, (dict, list)):
        for member in document.values() if isinstance(document, dict) else document:
            yield from _texts_in(member)


def parse(entry: str | Mapping[str, Any]) -> Check:
    """Return the check that an entry describes. Raises `InvalidEntryError`."""
    given = {"url": entry} if isinstance(entry, str) else dict(entry)
    if "url" not in given:
        raise InvalidEntryError("'url' is missing.")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS) or f"Valid keys are {', '.join(_KEYS)}."
            raise InvalidEntryError(f"{key!r} is not a valid key.", hint)
        allowed, read = _KEYS[key]
        try:
            values[key] = read(value)
        except (TypeError, ValueError) as error:
            shown_value = "invalid" if key in _SECRET else repr(value)
            raise InvalidEntryError(f"{key!r} is {shown_value}; it must be {allowed}.") from error
    _check_conflicts(values)
    if isinstance(given.get("body"), (dict, list)):
        values["headers"] = {"Content-Type": "application/json", **values.get("headers", {})}
    if "redirect" in values and not values.get("follow"):
        values.setdefault("status", REDIRECTS)
    values.setdefault("name", _name(values["url"]))
    return Check(**values)


#: Names of query parameters whose values are not displayed.
_SECRET_PARAMETER = re.compile(
    "auth|code|credential|key|pass|pwd|secret|session|sig|state|token", re.IGNORECASE
)


def show_url(url: str) -> str:
    """Return a URL without credentials and without the values of parameters with secret names."""
    pairs = [pair.partition("=") for pair in urlsplit(url).query.split("&") if pair]
    query = "&".join(
        f"{name}={'...' if _SECRET_PARAMETER.search(name) else value}" if equals else "..."
        for name, equals, value in pairs
    )
    return redact_url(url).removesuffix("?...") + (f"?{query}" if query else "")


def redact_url(url: str) -> str:
    """Return a URL without credentials, and with its query replaced by "..."."""
    try:
        parts = urlsplit(url)
    except ValueError:  # an invalid URL may contain secrets, too
        return url.partition("?")[0].partition("#")[0].rpartition("@")[2]
    netloc = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    return f"{plain}?..." if parts.query else plain


def with_ascii_host(parts: SplitResult) -> str:
    """Return an absolute URL with the host in IDNA, and without credentials.

    Raises `ValueError` if the host or port is invalid.
    """
    host = parts.hostname or ""
    netloc = f"[{host}]" if ":" in host else host.encode("idna").decode()
    _require(netloc)
    if parts.port:
        netloc += f":{parts.port}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path or "/"))


def _check_conflicts(values: Mapping[str, Any]) -> None:
    max_time, timeout = values.get("max_time"), values.get("timeout")
    if max_time and timeout and max_time >= timeout * TIME_SHARE:
        msg = (
            f"'max_time' is {max_time!r}; it must be less than {TIME_SHARE:.0%} of 'timeout', which"
            f" is {timeout!r}."
        )
        raise InvalidEntryError(msg)
    if not values["url"].startswith("https:"):
        for key in ("certificate_days", "ca_file"):
            if key in values:
                msg = f"{key!r} is only valid for URLs that start with https://."
                raise InvalidEntryError(msg)
    if "json" in values and values.get("method") == "HEAD":
        raise InvalidEntryError("'json' is not valid with HEAD, whose responses have no body.")


def _name(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{parts.path}".strip("/") or "home"


# Parsers of values, which raise TypeError or ValueError


def _url(value: Any) -> str:
    parts = urlsplit(_string(value))
    _require(value.isprintable() and " " not in value and not parts.fragment)
    if parts.scheme or parts.netloc:
        _require(parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc)
        _ = parts.port  # raises for an invalid port
        return str(iri_to_uri(with_ascii_host(parts)))
    _require(value.startswith("/") and not value.startswith("//"))
    return str(iri_to_uri(value))


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _method(value: Any) -> str:
    _require(_string(value).upper() in _METHODS)
    return str(value).upper()


def _headers(value: Any) -> dict[str, str]:
    _require(isinstance(value, Mapping))
    for name, content in value.items():
        _require(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", _string(name)))
        _require(not re.search(r"[\r\n\0]", _string(content)))
        content.encode("latin-1")  # raises a ValueError
    return dict(value)


def _body(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value).encode()
    return _string(value).encode()


def _status(value: Any) -> frozenset[int]:
    items = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    _require(items)
    found: set[int] = set()
    for item in items:
        if isinstance(item, str):
            match = re.fullmatch(r"([1-5])xx", item)
            _require(match)
            first = int(item[0]) * 100
            found.update(range(first, first + 100))
        else:
            _require(isinstance(item, int) and not isinstance(item, bool) and 100 <= item <= 599)
            found.add(item)
    return frozenset(found)


def _texts(value: Any) -> tuple[Text, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    _require(items and all(isinstance(item, (str, re.Pattern)) and item for item in items))
    _require(all(isinstance(p.pattern, str) for p in items if isinstance(p, re.Pattern)))
    return tuple(items)


def _json(value: Any) -> dict[str, Any]:
    _require(isinstance(value, Mapping) and all(isinstance(key, str) and key for key in value))
    return dict(value)


def _response_headers(value: Any) -> dict[str, Text | None]:
    _require(isinstance(value, Mapping) and value)
    for name, content in value.items():
        _require(_string(name))
        _require(content is None or _texts(content))
    return dict(value)


def _redirect(value: Any) -> str:
    parts = urlsplit(_string(value))
    if not value.startswith("/") or parts.netloc:
        _require(parts.scheme in {"", "http", "https"} and with_ascii_host(parts))
    return str(value)


def _file(value: Any) -> str:
    _require(isinstance(value, (str, Path)) and Path(value).is_file())
    return str(value)


def _valid(
    validator: Validator, convert: Callable[[Any], Any] = lambda value: value
) -> tuple[str, Callable[[Any], Any]]:
    """Return the entry of `_KEYS` for a validator. `convert` is applied to valid values."""

    def read(value: Any) -> Any:
        _require(validator.is_valid(value))
        return convert(value)

    return validator.allowed, read


_TEXTS = "a string or a compiled pattern, or a list of them"
_ADDRESS = (
    "a path of this site, such as '/login/', or a URL that starts with http:// or https://,"
    " without a user name (use an Authorization header), spaces or a fragment"
)

#: Description of the allowed values, and parser, by key.
_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "url": (_ADDRESS, _url),
    "name": _valid(
        string(
            "a string that contains a letter or digit",
            lambda value: bool(re.search(r"[^\W_]", value)),
        )
    ),
    "method": (f"one of {', '.join(_METHODS)}", _method),
    "headers": ("a dict of names and strings, without line breaks", _headers),
    "body": ("a string, bytes, or a dict or list that is sent as JSON", _body),
    "status": ("a status from 100 to 599, a class such as '2xx', or a list of them", _status),
    "text": (_TEXTS, _texts),
    "no_text": (_TEXTS, _texts),
    "json": ("a dict of paths, such as 'queue.depth', and values", _json),
    "response_headers": (
        "a dict of names and strings or compiled patterns, or None for a forbidden header",
        _response_headers,
    ),
    "redirect": ("a path that starts with a slash, or a URL", _redirect),
    "follow": _valid(BOOLEAN),
    "max_time": _valid(POSITIVE_SECONDS, float),
    "certificate_days": _valid(DAYS, float),
    "ca_file": ("the path of a file that exists", _file),
    "severity": _valid(choice(Severity), str),
    "timeout": _valid(POSITIVE_SECONDS, float),
    "slow_after": _valid(POSITIVE_SECONDS, float),
    "every": _valid(SECONDS, float),
    "maintainer": _valid(STRING),
    "runbook_url": _valid(STRING),
    "tags": _valid(
        strings("a list of non-empty strings", bool), lambda value: tuple(sorted(value))
    ),
}
#: Keys whose values are not shown, since they may contain secrets.
_SECRET = {"url", "headers", "body"}
