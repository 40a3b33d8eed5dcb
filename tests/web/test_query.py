"""Parsing of query strings and request headers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.http import QueryDict
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from smoketest.coordination.coordinator import Freshness
from smoketest.formats import HTTP_FORMATS
from smoketest.results import MAX_NAMES, Selection
from smoketest.web.query import (
    MAX_NAME_LENGTH,
    PARAMETERS,
    InvalidQueryError,
    Query,
    parse_form,
    parse_query,
)
from smoketest.web.query import preferred_format as preferred_format_of
from tests.builders import PROPERTY

ALL_FORMATS = ", ".join(HTTP_FORMATS)


def parse(query_string: str = "", **headers: str) -> Query:
    """Parse a request with this query string and these headers."""
    return parse_query(RequestFactory().get(f"/smoketest/?{query_string}", headers=headers))


def preferred_format(accept: str) -> str:
    request = RequestFactory().get("/smoketest/", headers={"Accept": accept})
    return preferred_format_of(request).name


def test_parse__no_parameters() -> None:
    """Without parameters, the query selects all tests with the default freshness, as text."""
    assert parse() == Query(
        selection=Selection(), freshness=Freshness(), failfast=False, format=HTTP_FORMATS["text"]
    )


def test_parse__all_parameters() -> None:
    """All parameters can be combined."""
    query = parse(
        "test=polls.smoke&test=blog&tag=db&tag=cache&exclude_tag=slow&exclude_tag=flaky"
        "&failfast=1&format=json&max_age=30&only_if_cached=1"
    )
    assert query == Query(
        selection=Selection(
            names=("polls.smoke", "blog"), tags=("db", "cache"), excluded_tags=("slow", "flaky")
        ),
        freshness=Freshness(max_age=30.0, only_if_cached=True),
        failfast=True,
        format=HTTP_FORMATS["json"],
    )


@pytest.mark.parametrize(
    ("query_string", "selection"),
    [
        ("test=polls", Selection(names=("polls",))),
        ("test=polls&test=blog&test=polls", Selection(names=("polls", "blog"))),
        ("tag=db&tag=db", Selection(tags=("db",))),
        ("exclude_tag=a%20b", Selection(excluded_tags=("a b",))),
        ("test=%F0%9F%98%80", Selection(names=("😀",))),
        ("test=%00", Selection(names=("\0",))),
        ("test=%ED%A0%80", Selection(names=("\ufffd" * 3,))),
    ],
)
def test_selection__names(query_string: str, selection: Selection) -> None:
    """Names keep their order and are deduplicated; invalid bytes are replaced."""
    assert parse(query_string).selection == selection


@pytest.mark.parametrize("parameter", ["test", "tag", "exclude_tag"])
@pytest.mark.parametrize("form", ["{0}=", "{0}", "{0}=db&{0}="])
def test_selection__empty(parameter: str, form: str) -> None:
    """An empty name is an error: it is more likely an unset variable than a wish for all tests."""
    message = f"The parameter {parameter} is empty; it takes a name, as in ?{parameter}=..."
    with pytest.raises(InvalidQueryError, match=f"^{re.escape(message)}$"):
        parse(form.format(parameter))


@pytest.mark.parametrize(
    ("query_string", "message"),
    [
        ("failfast=yes", "failfast is 'yes'; it must be 0 or 1."),
        ("failfast=", "failfast is ''; it must be 0 or 1."),
        ("failfast=1&failfast=1", "failfast is given 2 times; it must be given only once."),
        ("only_if_cached=true", "only_if_cached is 'true'; it must be 0 or 1."),
        (
            "only_if_cached=1&only_if_cached=0",
            "only_if_cached is given 2 times; it must be given only once.",
        ),
        ("format=xml", f"format is 'xml'; it must be one of {ALL_FORMATS}."),
        ("format=", f"format is ''; it must be one of {ALL_FORMATS}."),
        ("format=JSON", f"format is 'JSON'; it must be one of {ALL_FORMATS}."),
        ("format=text&format=json", "format is given 2 times; it must be given only once."),
        ("max_age=", "max_age is ''; it must be a number of seconds, 0 or more."),
        ("max_age=old", "max_age is 'old'; it must be a number of seconds, 0 or more."),
        ("max_age=-1", "max_age is '-1'; it must be a number of seconds, 0 or more."),
        ("max_age=nan", "max_age is 'nan'; it must be a number of seconds, 0 or more."),
        ("max_age=inf", "max_age is 'inf'; it must be a number of seconds, 0 or more."),
        ("max_age=1&max_age=2", "max_age is given 2 times; it must be given only once."),
    ],
)
def test_parse__invalid_value(query_string: str, message: str) -> None:
    """An invalid value is rejected with a message that quotes it and lists the valid values."""
    with pytest.raises(InvalidQueryError, match=f"^{re.escape(message)}$"):
        parse(query_string)


@pytest.mark.parametrize("name", ["test", "tag", "exclude_tag"])
def test_names__limits(name: str) -> None:
    """The work for a request of a client without access is bounded."""
    longest = "x" * MAX_NAME_LENGTH
    most = urlencode(
        [(name, f"{number}{longest}"[:MAX_NAME_LENGTH]) for number in range(MAX_NAMES)]
    )
    parse(most)
    message = f"{name} is given 101 times; it must be given at most 100 times."
    with pytest.raises(InvalidQueryError, match=f"^{message}$"):
        parse(f"{most}&{name}=x")
    message = f"{name} has 301 characters; it must have at most 300."
    with pytest.raises(InvalidQueryError, match=f"^{message}$"):
        parse(f"{name}={longest}x")


def test_form__limits() -> None:
    form = QueryDict(mutable=True)
    form.setlist("test", [str(number) for number in range(MAX_NAMES)])
    assert len(parse_form(form).selection.names) == MAX_NAMES
    form.appendlist("test", "x")
    with pytest.raises(InvalidQueryError, match="test is given 101 times"):
        parse_form(form)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("fromat", f"the parameters are {', '.join(PARAMETERS)}. Did you mean format?"),
        ("Test", f"the parameters are {', '.join(PARAMETERS)}. Did you mean test?"),
        ("", f"the parameters are {', '.join(PARAMETERS)}."),
        ("tags", f"the parameters are {', '.join(PARAMETERS)}. Did you mean tag?"),
        ("nonsense", f"the parameters are {', '.join(PARAMETERS)}."),
    ],
)
def test_parse__unknown_parameter(name: str, ending: str) -> None:
    """An unknown parameter is rejected with the list of parameters and the closest match."""
    message = f"Unknown parameter {name!r}; {ending}"
    with pytest.raises(InvalidQueryError, match=f"^{re.escape(message)}$"):
        parse(f"{name}=1")


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True)])
def test_flags__values(value: str, expected: bool) -> None:
    query = parse(f"failfast={value}&only_if_cached={value}")
    assert query.failfast is expected
    assert query.freshness.only_if_cached is expected


@pytest.mark.parametrize(("value", "expected"), [("0", 0.0), ("5", 5.0), ("2.5", 2.5)])
def test_max_age__values(value: str, expected: float) -> None:
    assert parse(f"max_age={value}").freshness == Freshness(max_age=expected)


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        ("", Freshness()),
        ("max-age=5", Freshness(max_age=5.0)),
        ("max-age=0", Freshness(max_age=0.0)),
        ('max-age="7"', Freshness(max_age=7.0)),
        ("MAX-AGE=5", Freshness(max_age=5.0)),
        ("no-cache", Freshness(no_cache=True)),
        ("No-Cache", Freshness(no_cache=True)),
        ("only-if-cached", Freshness(only_if_cached=True)),
        ("only-if-cached, max-age=60", Freshness(max_age=60.0, only_if_cached=True)),
        (" no-cache ,max-age = 3,, ", Freshness(max_age=3.0, no_cache=True)),
        ("no-store, min-fresh=3, no-transform", Freshness()),
        ("max-age", Freshness()),
        ("max-age=", Freshness()),
        ("max-age=soon", Freshness()),
        ("max-age=-1", Freshness()),
        ("max-age=inf", Freshness()),
        ("x-no-cache", Freshness()),
        ("=,=;\0é", Freshness()),
    ],
)
def test_cache_control__directives(cache_control: str, expected: Freshness) -> None:
    """`Cache-Control` overrides the default freshness; invalid directives are ignored."""
    assert parse(**{"Cache-Control": cache_control}).freshness == expected


def test_cache_control__and_parameters() -> None:
    """Query parameters take precedence over `Cache-Control`, which a proxy may have set."""
    query = parse("max_age=30", **{"Cache-Control": "max-age=0"})
    assert query.freshness == Freshness(max_age=30.0)
    query = parse("only_if_cached=1", **{"Cache-Control": "max-age=9"})
    assert query.freshness == Freshness(max_age=9.0, only_if_cached=True)


@pytest.mark.parametrize("name", HTTP_FORMATS)
def test_format__parameter(name: str) -> None:
    """The parameter takes precedence over `Accept`."""
    for other in HTTP_FORMATS.values():
        assert parse(f"format={name}", Accept=other.media_type).format.name == name


@pytest.mark.parametrize("name", HTTP_FORMATS)
def test_format__accept(name: str) -> None:
    assert parse(Accept=HTTP_FORMATS[name].media_type).format.name == name


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "text"),
        ("text/plain", "text"),
        ("application/json", "json"),
        ("APPLICATION/JSON", "json"),
        ("application/*", "json"),
        ("application/json, */*;q=0.1", "json"),
        ("application/json;q=0.5, text/plain", "text"),
        ("application/json, text/plain;q=0.9", "json"),
        ("text/plain;q=0, application/json;q=0.1", "json"),
        ("image/png", "text"),
        ("image/png, application/json;q=0.1", "json"),
        ("application/json;q=0", "text"),
        ("*/*;q=0", "text"),
    ],
)
def test_accept__negotiation(accept: str, expected: str) -> None:
    """The client's preferred format is used, or text if none is acceptable."""
    assert preferred_format(accept) == expected


@pytest.mark.parametrize(
    "accept",
    [
        "",
        " ",
        ",,,",
        ";;;",
        "=;=",
        "/",
        "*",
        "application",
        "application/",
        "/json",
        "application/json/x",
        "\0",
        "é",
        "application/json;q*=nonsense''1",
        "application/json;q*=\0''1",
        "application/json" * 1_000,
        "application/json;" * 1_000,
    ],
    ids=lambda accept: repr(accept[:40]),
)
def test_accept__malformed(accept: str) -> None:
    """A malformed header selects text and raises no exception."""
    assert preferred_format(accept) == "text"


@PROPERTY
@given(
    st.lists(
        st.sampled_from(
            [
                "application/json",
                "*",
                "/",
                ";",
                "=",
                "q",
                "*=",
                "*0",
                "''",
                '"',
                ",",
                "%ff",
                "é",
                " ",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_accept__any(accept: str) -> None:
    """No value of `Accept` raises an exception."""
    assert preferred_format(accept) in HTTP_FORMATS


def test_accept__absent() -> None:
    headers: dict[str, Any] = {}
    assert preferred_format_of(RequestFactory().get("/smoketest/", headers=headers)).name == "text"
