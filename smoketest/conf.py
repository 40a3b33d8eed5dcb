"""The settings ``SMOKETEST_*``: typed, validated at each access and never cached.

Only the edges of the package read them: views, the command, the system checks and
`smoketest.services`. This module also collects the values of the site's settings and environment
that must be redacted.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, overload
from urllib.parse import unquote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter

from smoketest.validators import is_number, is_strings

T = TypeVar("T")
PREFIX = "SMOKETEST_"


class InvalidSettingError(ImproperlyConfigured):
    """A setting has a value that it may not have; the message names what is allowed."""

    def __init__(self, setting: Setting[Any], value: object) -> None:
        self.setting = setting
        shown = "wrong" if setting.is_secret else repr(value)
        super().__init__(f"{setting.name} is {shown}; it must be {setting.allowed}.")


class Setting(Generic[T]):
    """One setting, as a property of `Settings`.

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

    @overload
    def __get__(self, instance: None, owner: type[Settings]) -> Self: ...
    @overload
    def __get__(self, instance: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, instance: Settings | None, owner: type[Settings]) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(settings, self.name, self.default)
        if not self._is_valid(value):
            raise InvalidSettingError(self, value)
        return value


class Settings:
    """Settings of one app, which share a prefix; a wrong value raises `InvalidSettingError`."""

    prefix: ClassVar[str]
    #: By their names.
    settings: ClassVar[dict[str, Setting[Any]]]

    def __init_subclass__(cls, *, prefix: str = PREFIX) -> None:
        cls.prefix, cls.settings = prefix, {}
        for attribute, setting in vars(cls).items():
            if isinstance(setting, Setting):
                setting.name = prefix + attribute.upper()
                cls.settings[setting.name] = setting


def seconds(check_id: str, default: float) -> Setting[float]:
    return Setting(
        check_id,
        default,
        "a number of seconds, more than 0",
        lambda value: is_number(value) and value > 0,
    )


def boolean(check_id: str, default: bool) -> Setting[bool]:
    return Setting(check_id, default, "True or False", lambda value: isinstance(value, bool))


#: Characters. `secrets.token_urlsafe()` makes some of 43.
SHORTEST_TOKEN = 16


class Conf(Settings):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: Names or labels of apps to leave out.
    skip_apps: Setting[Collection[str]] = Setting(
        "smoketest.E001",
        (),
        "a list, tuple or set of app names or labels",
        is_strings,
    )
    #: How long a test may take that declares nothing else.
    timeout = seconds("smoketest.E002", 10.0)
    #: From when on a test counts as slow that declares nothing else.
    slow_after = seconds("smoketest.E003", 1.0)
    #: Deadline of a whole run.
    run_timeout = seconds("smoketest.E004", 25.0)
    #: Longest wait for a row or table lock.
    lock_timeout = seconds("smoketest.E005", 1.0)
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
        lambda value: value is None or (is_number(value) and value > 0),
    )
    #: Whether a scrape starts a background run when one is due.
    run_on_scrape = boolean("smoketest.E012", True)
    #: How old an answer of the endpoint may be.
    max_age: Setting[float] = Setting(
        "smoketest.E008",
        5.0,
        "a number of seconds, 0 or more",
        lambda value: is_number(value) and value >= 0,
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
    public_status = boolean("smoketest.E016", False)
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
    django_prometheus = boolean("smoketest.E013", False)
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


def unknown_settings(known: Collection[str]) -> dict[str, str | None]:
    """Settings of the site that have our prefix but no meaning, and what may have been meant."""
    unknown = sorted(
        name for name in dir(settings) if name.startswith(PREFIX) and name not in known
    )
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), None) for name in unknown}


conf = Conf()


#: Django's own settings whose names sound like a secret, and that hold none.
_HARMLESS = frozenset({
    "AUTHENTICATION_BACKENDS", "AUTH_PASSWORD_VALIDATORS", "AUTH_USER_MODEL",
    "CACHE_MIDDLEWARE_KEY_PREFIX", "PASSWORD_HASHERS",
})  # fmt: skip
#: Variables of the environment that are shorter are switches, such as AUTH=basic.
_SHORTEST_VARIABLE = 8
_CREDENTIALS = re.compile(r"://[^\s/:@]*:([^\s/]+)@")


def secrets_of_site() -> set[str]:
    """The values; whoever shows text to anybody hides them in it."""
    reporter: Any = get_default_exception_reporter_filter()
    hidden: re.Pattern[str] = getattr(
        reporter, "hidden_settings", SafeExceptionReporterFilter.hidden_settings
    )
    found: set[str] = set()
    lazy: Any = settings
    values = lazy._wrapped  # past the warnings about names that are deprecated
    for name in dir(values):
        if name.isupper() and values.is_overridden(name):
            is_secret = hidden.search(name) is not None and name not in _HARMLESS
            found.update(_strings(getattr(values, name), hidden, is_secret, frozenset()))
    for name, value in os.environ.items():
        is_secret = hidden.search(name) is not None and len(value) >= _SHORTEST_VARIABLE
        found.update(_strings(value, hidden, is_secret, frozenset()))
    return found - {""}


def _strings(
    value: Any, hidden: re.Pattern[str], is_secret: bool, seen: frozenset[int]
) -> Iterator[str]:
    """The secrets in a value; passwords in addresses are some wherever they stand."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        yield from map(unquote, _CREDENTIALS.findall(value))
        if is_secret:
            yield value
    elif id(value) in seen:
        return
    elif isinstance(value, Mapping):
        for key, member in value.items():
            is_hidden = is_secret or hidden.search(str(key)) is not None
            yield from _strings(member, hidden, is_hidden, seen | {id(value)})
    elif isinstance(value, (list, tuple, set, frozenset)):
        for member in value:
            yield from _strings(member, hidden, is_secret, seen | {id(value)})
