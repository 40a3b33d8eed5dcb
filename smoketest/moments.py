"""How times of day are written."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(timestamp: float) -> str:
    """For people: ``2026-11-22 09:30:00 UTC``."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(timestamp: float) -> str:
    """For machines, to the millisecond (ISO 8601)."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def from_iso(text: str) -> float:
    """Unix time of what `iso` wrote. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()
