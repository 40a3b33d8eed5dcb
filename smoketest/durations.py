"""Durations as people write them: ``90``, ``90s``, ``30m``, ``2h``, ``1d``."""

from __future__ import annotations

import re

#: Seconds.
LONGEST = 365 * 86400

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Seconds. Raises `ValueError` with what is allowed."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        msg = (
            f"{text!r} is no duration; write a number and s, m, h or d, such as 90s or 30m, of no"
            " more than 365d."
        )
        raise ValueError(msg)
    return seconds
