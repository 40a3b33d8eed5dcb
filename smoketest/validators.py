"""Validation of settings, attributes of smoke tests and arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import TypeGuard

#: Maximum duration in seconds.
LONGEST = 365 * 86400

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds in a duration such as ``90s``, ``30m`` or ``10``. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        msg = (
            f"{text!r} is not a valid duration; write a number and s, m, h or d, such as 90s or"
            " 30m, up to 365d."
        )
        raise ValueError(msg)
    return seconds


def is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def is_strings(value: object) -> TypeGuard[Collection[str]]:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(member, str) for member in value
    )
