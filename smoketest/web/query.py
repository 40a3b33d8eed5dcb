"""Parse and validate the query parameters and headers of a request."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

from django.http import HttpRequest, QueryDict
from django.http.request import MediaType

from smoketest.coordination.coordinator import Freshness
from smoketest.formats.html import EVERY_TEST, OUTCOMES, Filter
from smoketest.metrics import OPEN_METRICS, TEXT, Encoding
from smoketest.results import Selection

#: Media types by the names of the formats in ``?format=``. The first is the default.
FORMATS = {
    "text": "text/plain",
    "json": "application/json",
    "html": "text/html",
    "ndjson": "application/x-ndjson",
}

PARAMETERS = ("test", "tag", "exclude_tag", "failfast", "format", "max_age", "only_if_cached")
#: Parameters of the HTML page: filters of the displayed results.
PAGE_PARAMETERS = ("q", "app", "outcome")


#: Seconds. Greater ages are reduced to this one (RFC 9111, section 1.2.2).
GREATEST_AGE = 2.0**31


class InvalidQueryError(ValueError):
    """A parameter is unknown or its value is invalid; the message names what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The parsed parameters and headers of a request."""

    selection: Selection
    freshness: Freshness
    failfast: bool = False
    #: A key of `FORMATS`.
    format: str
    #: Filter of the results that the HTML page displays.
    shown: Filter = EVERY_TEST


def parse_query(request: HttpRequest) -> Query:
    """Parse a request. Raise `InvalidQueryError`."""
    parameters: QueryDict = request.GET
    format_name = _format(parameters) or preferred_format(request)
    known: tuple[str, ...] = PARAMETERS
    if format_name == "html":
        known += PAGE_PARAMETERS
        parameters = _without_empty_fields(parameters)
    for name in parameters:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            msg = f"Unknown parameter {name!r}; the parameters are {', '.join(known)}.{hint}"
            raise InvalidQueryError(msg)
    return Query(
        selection=Selection(
            names=_names(parameters, "test"),
            tags=_names(parameters, "tag"),
            excluded_tags=_names(parameters, "exclude_tag"),
        ),
        freshness=_freshness(parameters, request.headers.get("Cache-Control", "")),
        failfast=_flag(parameters, "failfast"),
        format=format_name,
        shown=_shown(parameters) if format_name == "html" else EVERY_TEST,
    )


def preferred_format(request: HttpRequest) -> str:
    """Return the format that ``Accept`` prefers; text if the header is missing or malformed."""
    if not accepted_types(request):
        return "text"
    preferred = request.get_preferred_type(list(FORMATS.values()))
    return next((name for name, media in FORMATS.items() if media == preferred), "text")


def format_of_error(request: HttpRequest) -> str:
    """Return the format of an error response, even if the query is invalid."""
    requested = request.GET.get("format", "")
    return requested if requested in FORMATS else preferred_format(request)


def accepted_types(request: HttpRequest) -> list[MediaType]:
    """Return the media types in ``Accept`` by preference; empty if the header is malformed."""
    try:
        return request.accepted_types
    except (LookupError, ValueError):
        return []


def preferred_encoding(request: HttpRequest) -> Encoding:
    """Return the exposition format that ``Accept`` prefers; text 0.0.4 by default."""
    return _encoding_for(request.META.get("HTTP_ACCEPT", ""))


@lru_cache(maxsize=64)
def _encoding_for(accept: str) -> Encoding:
    """Return the exposition format; cached, because Prometheus always sends the same header."""
    request = HttpRequest()
    request.META["HTTP_ACCEPT"] = accept
    for accepted in accepted_types(request):
        version = accepted.params.get("version", "")
        match (accepted.main_type, accepted.sub_type):
            case ("application", "openmetrics-text") if version in {"", "1.0.0"}:
                return OPEN_METRICS
            case ("text", "plain") if version in {"", "0.0.4"}:
                return TEXT
    return TEXT


def accepts_gzip(request: HttpRequest) -> bool:
    """Return whether ``Accept-Encoding`` allows gzip (RFC 9110, section 12.5.3)."""
    qualities = {}
    for coding in request.META.get("HTTP_ACCEPT_ENCODING", "").split(","):
        name, _, parameter = coding.partition(";")
        is_refused = re.fullmatch(r"\s*q\s*=\s*0(\.0{0,3})?\s*", parameter, re.IGNORECASE)
        qualities[name.strip().lower()] = not is_refused
    return qualities.get("gzip", qualities.get("*", False))


def _names(parameters: QueryDict, name: str) -> tuple[str, ...]:
    values = parameters.getlist(name)
    if not all(values):
        msg = f"The parameter {name} is empty; it takes a name, as in ?{name}=..."
        raise InvalidQueryError(msg)
    return tuple(dict.fromkeys(values))


def _flag(parameters: QueryDict, name: str) -> bool:
    value = _single(parameters, name, "0")
    if value not in {"0", "1"}:
        msg = f"{name} is {value!r}; it must be 0 or 1."
        raise InvalidQueryError(msg)
    return value == "1"


def _format(parameters: QueryDict) -> str | None:
    value = _single(parameters, "format", "")
    if "format" in parameters and value not in FORMATS:
        msg = f"format is {value!r}; it must be one of {', '.join(FORMATS)}."
        raise InvalidQueryError(msg)
    return value or None


def _without_empty_fields(parameters: QueryDict) -> QueryDict:
    """Remove empty parameters that the filter form of the page sends."""
    remaining = QueryDict(mutable=True)
    for name, values in parameters.lists():
        if kept := [value for value in values if value or name not in {"tag", *PAGE_PARAMETERS}]:
            remaining.setlist(name, kept)
    return remaining


def _shown(parameters: QueryDict) -> Filter:
    outcome = _single(parameters, "outcome", "")
    if outcome and outcome not in OUTCOMES:
        msg = f"outcome is {outcome!r}; it must be one of {', '.join(OUTCOMES)}."
        raise InvalidQueryError(msg)
    return Filter(
        text=_single(parameters, "q", ""), app=_single(parameters, "app", ""), outcome=outcome
    )


def _single(parameters: QueryDict, name: str, default: str) -> str:
    values = parameters.getlist(name)
    if len(values) > 1:
        msg = f"{name} is given {len(values)} times; it must be given only once."
        raise InvalidQueryError(msg)
    return values[0] if values else default


def _freshness(parameters: QueryDict, cache_control: str) -> Freshness:
    """Parse the parameters, which override ``Cache-Control``; invalid directives are ignored."""
    directives = dict(_directives(cache_control))
    max_age = _seconds(directives.get("max-age"))
    if "max_age" in parameters:
        value = _single(parameters, "max_age", "")
        if (max_age := _seconds(value)) is None:
            msg = f"max_age is {value!r}; it must be a number of seconds, 0 or more."
            raise InvalidQueryError(msg)
    return Freshness(
        max_age=max_age,
        no_cache="no-cache" in directives,
        only_if_cached="only-if-cached" in directives or _flag(parameters, "only_if_cached"),
    )


def _directives(cache_control: str) -> list[tuple[str, str]]:
    """Parse ``Cache-Control`` (https://www.rfc-editor.org/rfc/rfc9111#section-5.2)."""
    directives = []
    for directive in cache_control.split(","):
        name, _, value = directive.partition("=")
        directives.append((name.strip().lower(), value.strip().strip('"')))
    return directives


def _seconds(text: str | None) -> float | None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text or ""):
        return None
    return min(float(text or ""), GREATEST_AGE)
