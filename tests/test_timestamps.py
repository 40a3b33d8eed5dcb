"""Tests of `smoketest.results`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given

from smoketest.results import iso, utc
from tests.builders import NOW, PROPERTY, moments


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kathmandu"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone of the process."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_utc__any_time_zone() -> None:
    """To the second and in UTC, wherever the server believes to be; it says so."""
    assert utc(NOW) == "2026-02-01 12:00:00 UTC"


@pytest.mark.usefixtures("zone")
def test_iso__any_time_zone() -> None:
    """To the millisecond, with the offset."""
    assert iso(NOW) == "2026-02-01T12:00:00.500+00:00"


@pytest.mark.parametrize(
    ("timestamp", "people", "machines"),
    [
        (0, "1970-01-01 00:00:00 UTC", "1970-01-01T00:00:00.000+00:00"),
        (1_769_947_200, "2026-02-01 12:00:00 UTC", "2026-02-01T12:00:00.000+00:00"),
        (951_827_696.789, "2000-02-29 12:34:56 UTC", "2000-02-29T12:34:56.789+00:00"),
        (1_767_225_599.999, "2025-12-31 23:59:59 UTC", "2025-12-31T23:59:59.999+00:00"),
    ],
)
def test_both__examples(timestamp: float, people: str, machines: str) -> None:
    """Neither leaves out a part that is zero, nor rounds up to a moment that is yet to come."""
    assert utc(timestamp) == people
    assert iso(timestamp) == machines


@PROPERTY
@given(moments())
def test_iso__can_be_read_back(timestamp: float) -> None:
    """Whoever reads it gets the moment, less than a millisecond off."""
    off = datetime.fromtimestamp(timestamp, UTC) - datetime.fromisoformat(iso(timestamp))
    assert timedelta(0) <= off < timedelta(milliseconds=1)
