"""Tests of `smoketest.validators`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.validators import POSITIVE_SECONDS, did_you_mean, parse_duration
from tests.builders import PROPERTY


@pytest.mark.parametrize("value", [1, 0.5, 10**400])
def test_validate__valid(value: float) -> None:
    POSITIVE_SECONDS.validate("timeout", value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (None, TypeError),
        (0, ValueError),
        (float("inf"), ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
    ],
)
def test_validate__invalid(value: object, error: type[Exception]) -> None:
    """A wrong type is a `TypeError`, a value out of range a `ValueError`."""
    with pytest.raises(error) as caught:
        POSITIVE_SECONDS.validate("timeout", value)
    assert type(caught.value) is error
    assert str(caught.value) == (
        f"timeout is {value!r}; it must be a number of seconds greater than 0."
    )


def test_or_none() -> None:
    optional = POSITIVE_SECONDS.or_none("for no limit")
    assert optional.is_valid(None)
    assert not optional.is_valid(0)
    assert optional.allowed == "a number of seconds greater than 0, or None for no limit"


def test_did_you_mean() -> None:
    assert did_you_mean("time_out", ["timeout", "severity"]) == "Did you mean timeout?"
    assert did_you_mean("tag", ["tags", "tagged"], 2) == "Did you mean tags or tagged?"
    assert did_you_mean("zzz", ["timeout"]) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("0.25", 0.25),
        (" 5s ", 5),
        (" 10s\n", 10),
        ("007m", 420),
    ],
)
def test_parse_duration__valid(text: str, seconds: float) -> None:
    """A number with an optional unit: seconds, minutes, hours or days."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "s", "m30", "soon"),
        *("0", "0s", "0.0h", "-1", "-5m", "+5m"),
        *("1.", ".5", "1e3", "1,5h", "1_000", "0x10", "nan", "inf", "infinity"),
        *("1w", "10S", "2H", "1 h", "1h30m", "1h 30m", "90 s s", "5ms"),
        *("30m\0", "30m;", "1/2h"),
        *("-5s", "5x", "5 5", ".s", "٣ s"),
    ],
)
def test_parse_duration__invalid(text: str) -> None:
    """The message quotes the text and states what is allowed."""
    with pytest.raises(ValueError, match="is not a valid duration") as caught:
        parse_duration(text)
    assert str(caught.value) == (
        f"{text!r} is not a valid duration; write a number and s, m, h or d, such as 90s or"
        " 30m, up to 365d."
    )


@PROPERTY
@given(st.text() | st.from_regex(r"\d+(\.\d+)?[smhd]?", fullmatch=True))
def test_parse_duration__any_text(text: str) -> None:
    """Any text results in a positive, finite duration or a ValueError."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert "such as 90s or 30m" in str(error)  # noqa: PT017 - both outcomes are valid
    else:
        assert 0 < seconds < float("inf")


@pytest.mark.parametrize("text", ["9" * 400, "9" * 20, "4000000d"])
def test_parse_duration__too_long(text: str) -> None:
    """A duration that ends after the year 9999 is rejected: datetime cannot represent it."""
    with pytest.raises(ValueError, match="is not a valid duration"):
        parse_duration(text)
