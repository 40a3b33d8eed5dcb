"""The settings ``SMOKETEST_*``: typed, checked and never cached, so that tests may override them.

Only the edges read them: views, the command, the system checks and `smoketest.assembly`.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
PREFIX = "SMOKETEST_"
#: Characters. `secrets.token_urlsafe()` makes some of 43.
SHORTEST_TOKEN = 16


class InvalidSettingError(ImproperlyConfigured):
    """A setting has a value that it may not have; the message names what is allowed."""

    def __init__(self, setting: Setting[Any], value: object) -> None:
        self.setting = setting
        shown = "wrong" if setting.is_secret else repr(value)
        super().__init__(f"{setting.name} is {shown}; it must be {setting.allowed}.")


class Setting(Generic[T]):
    """One setting, as a property of `Conf`.

    `check_id` is the stable number of the system check that complains of a wrong value.
    """

    name: str

    def __init__(
        self,
        check_id: str,
        default: T,
        allowed: str,
        is_valid: Callable[[Any], bool],
        *,
        is_secret: bool = False,
    ) -> None:
        self.check_id = check_id
        self.default = default
        self.allowed = allowed
        self.is_secret = is_secret
        self._is_valid = is_valid

    def __set_name__(self, owner: type[Conf], attribute: str) -> None:
        self.name = PREFIX + attribute.upper()
        owner.settings[self.name] = self

    @overload
    def __get__(self, instance: None, owner: type[Conf]) -> Self: ...
    @overload
    def __get__(self, instance: Conf, owner: type[Conf]) -> T: ...
    def __get__(self, instance: Conf | None, owner: type[Conf]) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(settings, self.name, self.default)
        if not self._is_valid(value):
            raise InvalidSettingError(self, value)
        return value


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def _seconds(check_id: str, default: float) -> Setting[float]:
    return Setting(
        check_id,
        default,
        "a number of seconds, more than 0",
        lambda value: _is_number(value) and value > 0,
    )


class Conf:
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    settings: ClassVar[dict[str, Setting[Any]]] = {}

    #: Names or labels of apps to leave out.
    skip_apps: Setting[Collection[str]] = Setting(
        "smoketest.E001",
        (),
        "a list, tuple or set of app names or labels",
        lambda value: (
            isinstance(value, (list, tuple, set, frozenset))
            and all(isinstance(name, str) for name in value)
        ),
    )
    #: How long a test may take that declares nothing else.
    timeout = _seconds("smoketest.E002", 10.0)
    #: From when on a test counts as slow that declares nothing else.
    slow_after = _seconds("smoketest.E003", 1.0)
    #: Deadline of a whole run.
    run_timeout = _seconds("smoketest.E004", 25.0)
    #: Longest wait for a row or table lock.
    lock_timeout = _seconds("smoketest.E005", 1.0)
    #: Threads that run tests; 0 runs them in the calling thread, without time-outs.
    workers: Setting[int] = Setting(
        "smoketest.E006",
        4,
        "a whole number, 0 or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    )
    #: How often full runs are expected.
    interval: Setting[float | None] = Setting(
        "smoketest.E007",
        60.0,
        "a number of seconds, more than 0, or None if no runs are expected",
        lambda value: value is None or (_is_number(value) and value > 0),
    )
    #: Whether a scrape starts a background run when one is due.
    run_on_scrape: Setting[bool] = Setting(
        "smoketest.E012", True, "True or False", lambda value: isinstance(value, bool)
    )
    #: How old an answer of the endpoint may be.
    max_age: Setting[float] = Setting(
        "smoketest.E008",
        5.0,
        "a number of seconds, 0 or more",
        lambda value: _is_number(value) and value >= 0,
    )
    #: Where the results store lives.
    state_dir: Setting[str] = Setting(
        "smoketest.E009",
        "",
        "the absolute path of a folder, as a string or a Path, or empty",
        lambda value: not value or _is_absolute_path(value),
    )
    #: Who has one of these sees the results; without any the endpoint is open.
    tokens: Setting[Collection[str]] = Setting(
        "smoketest.E015",
        (),
        f"a list or tuple of strings of {SHORTEST_TOKEN} characters or more, without spaces",
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_token, value)),
        is_secret=True,
    )
    #: Whether those without a token are told PASS or FAIL, and nothing else.
    public_status: Setting[bool] = Setting(
        "smoketest.E016", False, "True or False", lambda value: isinstance(value, bool)
    )
    #: Address of the site, for links in alerts.
    public_url: Setting[str] = Setting(
        "smoketest.E010",
        "",
        "an address that begins with http:// or https://, or empty",
        lambda value: (
            isinstance(value, str) and (not value or value.startswith(("http://", "https://")))
        ),
    )
    #: Whether the metrics are on the page of django-prometheus as well.
    django_prometheus: Setting[bool] = Setting(
        "smoketest.E013", False, "True or False", lambda value: isinstance(value, bool)
    )
    #: Label of a run, such as the version that is deployed.
    release: Setting[str] = Setting(
        "smoketest.E011", "", "a string", lambda value: isinstance(value, str)
    )


def _is_token(value: object) -> bool:
    """Whether it can be sent in a header and not be guessed."""
    if not isinstance(value, str) or len(value) < SHORTEST_TOKEN:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _is_absolute_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and Path(value).is_absolute()


def unknown_settings() -> dict[str, str | None]:
    """Settings of the site that have our prefix but no meaning, and what may have been meant."""
    unknown = sorted(
        name for name in dir(settings) if name.startswith(PREFIX) and name not in Conf.settings
    )
    return {
        name: next(iter(difflib.get_close_matches(name, Conf.settings, 1)), None)
        for name in unknown
    }


conf = Conf()
