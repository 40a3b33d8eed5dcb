"""Tests of the timestamp formats in `smoketest.results`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given

from smoketest.results import iso, utc
from tests.builders import NOW, PROPERTY, timestamps


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kathmandu"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set the time zone of the process."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_utc__any_time_zone() -> None:
    """Timestamps for people are in UTC, to the second, in any time zone."""
    assert utc(NOW) == "2026-02-01 12:00:00 UTC"


@pytest.mark.usefixtures("zone")
def test_iso__any_time_zone() -> None:
    """ISO timestamps are in UTC, to the millisecond, in any time zone."""
    assert iso(NOW) == "2026-02-01T12:00:00.500+00:00"


@pytest.mark.parametrize(
    ("timestamp", "text", "iso_text"),
    [
        (0, "1970-01-01 00:00:00 UTC", "1970-01-01T00:00:00.000+00:00"),
        (1_769_947_200, "2026-02-01 12:00:00 UTC", "2026-02-01T12:00:00.000+00:00"),
        (951_827_696.789, "2000-02-29 12:34:56 UTC", "2000-02-29T12:34:56.789+00:00"),
        (1_767_225_599.999, "2025-12-31 23:59:59 UTC", "2025-12-31T23:59:59.999+00:00"),
    ],
)
def test_utc_and_iso__examples(timestamp: float, text: str, iso_text: str) -> None:
    """Zero parts are included, and fractions are rounded down."""
    assert utc(timestamp) == text
    assert iso(timestamp) == iso_text


@PROPERTY
@given(timestamps())
def test_iso__round_trip(timestamp: float) -> None:
    """A parsed timestamp is at most a millisecond early."""
    off = datetime.fromtimestamp(timestamp, UTC) - datetime.fromisoformat(iso(timestamp))
    assert timedelta(0) <= off < timedelta(milliseconds=1)
