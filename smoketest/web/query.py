"""Parse and validate the query parameters and headers of a request."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from django.http import HttpRequest, QueryDict
from django.http.request import MediaType

from smoketest.coordination.coordinator import Freshness
from smoketest.formats import HTML, HTTP_FORMATS, TEXT, Format
from smoketest.metrics import OPEN_METRICS, Encoding
from smoketest.metrics import TEXT as TEXT_METRICS
from smoketest.results import EVERY_RESULT, FILTER_OUTCOMES, MAX_NAMES, ResultFilter, Selection
from smoketest.validators import did_you_mean

PARAMETERS = ("test", "tag", "exclude_tag", "failfast", "format", "max_age", "only_if_cached")
#: Parameters of the HTML page: filters of the displayed results.
PAGE_PARAMETERS = ("q", "app", "outcome")


#: Maximum number of characters of a test name or a tag.
MAX_NAME_LENGTH = 300
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
    format: Format
    #: Filter of the results that the HTML page displays.
    shown: ResultFilter = EVERY_RESULT


def parse_query(request: HttpRequest) -> Query:
    """Parse a request. Raise `InvalidQueryError`."""
    parameters: QueryDict = request.GET
    report_format = _format(parameters) or preferred_format(request)
    known: tuple[str, ...] = PARAMETERS
    if report_format is HTML:
        known += PAGE_PARAMETERS
        parameters = _without_empty_fields(parameters, {"tag", *PAGE_PARAMETERS})
    for name in parameters:
        if name not in known:
            msg = f"Unknown parameter {name!r}; the parameters are {', '.join(known)}."
            raise InvalidQueryError(f"{msg} {did_you_mean(name, known)}".rstrip())
    return Query(
        selection=_selection(parameters),
        freshness=_freshness(parameters, request.headers.get("Cache-Control", "")),
        failfast=_flag(parameters, "failfast"),
        format=report_format,
        shown=_shown(parameters) if report_format is HTML else EVERY_RESULT,
    )


def parse_form(form: QueryDict) -> Query:
    """Parse a form of the HTML page, which requests a new run. Raise `InvalidQueryError`."""
    fields = _without_empty_fields(form, {"test", "tag", "exclude_tag"})
    return Query(
        selection=_selection(fields),
        freshness=Freshness(no_cache=True),
        failfast=_flag(fields, "failfast"),
        format=HTML,
    )


def query_of_test(test_id: str) -> Query:
    """Return the query for a new run of a test."""
    return Query(
        selection=Selection(names=(test_id,)), freshness=Freshness(no_cache=True), format=HTML
    )


def preferred_format(request: HttpRequest) -> Format:
    """Return the format that ``Accept`` prefers; text if the header is missing or malformed."""
    if not accepted_types(request):
        return TEXT
    by_media_type = {one.media_type: one for one in HTTP_FORMATS.values()}
    preferred = request.get_preferred_type(list(by_media_type))
    return by_media_type[preferred] if preferred else TEXT


def format_of_error(request: HttpRequest) -> Format:
    """Return the format of an error response, even if the query is invalid."""
    return HTTP_FORMATS.get(request.GET.get("format", "")) or preferred_format(request)


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
                return TEXT_METRICS
    return TEXT_METRICS


def accepts_gzip(request: HttpRequest) -> bool:
    """Return whether ``Accept-Encoding`` allows gzip (RFC 9110, section 12.5.3)."""
    qualities = {}
    for coding in request.META.get("HTTP_ACCEPT_ENCODING", "").split(","):
        name, _, parameter = coding.partition(";")
        is_refused = re.fullmatch(r"\s*q\s*=\s*0(\.0{0,3})?\s*", parameter, re.IGNORECASE)
        qualities[name.strip().lower()] = not is_refused
    return qualities.get("gzip", qualities.get("*", False))


def _selection(parameters: QueryDict) -> Selection:
    return Selection(
        names=_names(parameters, "test"),
        tags=_names(parameters, "tag"),
        excluded_tags=_names(parameters, "exclude_tag"),
    )


def _names(parameters: QueryDict, name: str) -> tuple[str, ...]:
    values = parameters.getlist(name)
    if not all(values):
        msg = f"The parameter {name} is empty; it takes a name, as in ?{name}=..."
        raise InvalidQueryError(msg)
    if len(values) > MAX_NAMES:
        msg = f"{name} is given {len(values)} times; it must be given at most {MAX_NAMES} times."
        raise InvalidQueryError(msg)
    if (longest := max(map(len, values), default=0)) > MAX_NAME_LENGTH:
        msg = f"{name} has {longest} characters; it must have at most {MAX_NAME_LENGTH}."
        raise InvalidQueryError(msg)
    return tuple(dict.fromkeys(values))


def _flag(parameters: QueryDict, name: str) -> bool:
    value = _single(parameters, name, "0")
    if value not in {"0", "1"}:
        msg = f"{name} is {value!r}; it must be 0 or 1."
        raise InvalidQueryError(msg)
    return value == "1"


def _format(parameters: QueryDict) -> Format | None:
    value = _single(parameters, "format", "")
    if "format" in parameters and value not in HTTP_FORMATS:
        msg = f"format is {value!r}; it must be one of {', '.join(HTTP_FORMATS)}."
        raise InvalidQueryError(msg)
    return HTTP_FORMATS.get(value)


def _without_empty_fields(parameters: QueryDict, fields: Collection[str]) -> QueryDict:
    """Remove empty values of the fields, which a form sends if they are not filled in."""
    remaining = QueryDict(mutable=True)
    for name, values in parameters.lists():
        if kept := [value for value in values if value or name not in fields]:
            remaining.setlist(name, kept)
    return remaining


def _shown(parameters: QueryDict) -> ResultFilter:
    outcome = _single(parameters, "outcome", "")
    if outcome and outcome not in FILTER_OUTCOMES:
        msg = f"outcome is {outcome!r}; it must be one of {', '.join(FILTER_OUTCOMES)}."
        raise InvalidQueryError(msg)
    return ResultFilter(
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
