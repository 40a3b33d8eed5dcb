"""Validation of settings, attributes of smoke tests, entries of built-in checks and arguments."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

#: Maximum duration in seconds.
LONGEST = 365 * 86400

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Validator:
    """A rule for a value, and its description in error messages."""

    #: Description of the valid values. It completes the sentence "it must be ...".
    allowed: str
    #: Return whether the type of the value is right.
    has_type: Callable[[Any], bool]
    #: Return whether a value of the right type is valid.
    is_allowed: Callable[[Any], bool] = lambda _: True

    def is_valid(self, value: object) -> bool:
        return self.has_type(value) and self.is_allowed(value)

    def validate(self, name: str, value: object) -> None:
        """Raise `TypeError` for a value of the wrong type, `ValueError` for one out of range."""
        if not self.is_valid(value):
            error = ValueError if self.has_type(value) else TypeError
            raise error(f"{name} is {value!r}; it must be {self.allowed}.")

    def or_none(self, meaning: str = "") -> Validator:
        """Return a validator that also allows None. `meaning` is what None stands for."""
        return Validator(
            f"{self.allowed}, or None {meaning}".rstrip(),
            lambda value: value is None or self.has_type(value),
            lambda value: value is None or self.is_allowed(value),
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_strings(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(member, str) for member in value
    )


def number(allowed: str, is_allowed: Callable[[float], bool]) -> Validator:
    """Return a validator for a finite number that `is_allowed` accepts."""
    return Validator(
        allowed, _is_number, lambda value: -math.inf < value < math.inf and is_allowed(value)
    )


def strings(allowed: str, is_member: Callable[[str], bool] = lambda _: True) -> Validator:
    """Return a validator for a list, tuple or set of strings, each of which `is_member` accepts."""
    return Validator(allowed, _are_strings, lambda value: all(map(is_member, value)))


def string(allowed: str, is_allowed: Callable[[str], bool] = lambda _: True) -> Validator:
    """Return a validator for a string that `is_allowed` accepts."""
    return Validator(allowed, lambda value: isinstance(value, str), is_allowed)


def choice(choices: Iterable[str]) -> Validator:
    """Return a validator for one of several strings."""
    choices = tuple(map(str, choices))
    return Validator(" or ".join(map(repr, choices)), lambda _: True, choices.__contains__)


POSITIVE_SECONDS = number("a number of seconds greater than 0", lambda value: value > 0)
SECONDS = number("a number of seconds, 0 or more", lambda value: value >= 0)
COUNT = Validator(
    "a whole number, 0 or more",
    lambda value: isinstance(value, int) and not isinstance(value, bool),
    lambda value: value >= 0,
)
BOOLEAN = Validator("True or False", lambda value: isinstance(value, bool))
STRING = string("a string")


def did_you_mean(name: str, known: Collection[str], limit: int = 1) -> str:
    """Return the question "Did you mean ...?" with similar names, or an empty string."""
    return suggest(difflib.get_close_matches(name, known, limit))


def suggest(names: Collection[str]) -> str:
    """Return the question "Did you mean ...?" with these names; empty if there are none."""
    return f"Did you mean {' or '.join(names)}?" if names else ""


def parse_duration(text: str) -> float:
    """Return the seconds in a duration such as ``90s``, ``30m`` or ``10``. Raise `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        msg = (
            f"{text!r} is not a valid duration; write a number and s, m, h or d, such as 90s or"
            " 30m, up to 365d."
        )
        raise ValueError(msg)
    return seconds


def is_label_value(value: str) -> bool:
    """Return whether the value is a valid label value in Kubernetes, and therefore in Prometheus.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    """
    return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value) is not None
