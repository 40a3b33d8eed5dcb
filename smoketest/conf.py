"""The ``SMOKETEST_*`` settings, and the secrets of the site that must be redacted.

Settings are typed, validated at each access and never cached. Only views, the management command,
the system checks and `smoketest.services` read them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from django.conf import UserSettingsHolder, settings
from django.core.exceptions import ImproperlyConfigured
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter

from smoketest.coordination.redaction import secrets_in
from smoketest.validators import (
    BOOLEAN,
    COUNT,
    POSITIVE_SECONDS,
    SECONDS,
    STRING,
    Validator,
    did_you_mean,
    is_label_value,
    string,
    strings,
)

T = TypeVar("T")
PREFIX = "SMOKETEST_"


class InvalidSettingError(ImproperlyConfigured):
    """The value of a setting is invalid; the message shows the value and what is allowed."""

    def __init__(self, setting: Setting[Any], value: object) -> None:
        self.setting = setting
        shown = "invalid" if setting.is_secret else repr(value)
        super().__init__(f"{setting.name} is {shown}; it must be {setting.allowed}.")


class Setting(Generic[T]):
    """Descriptor of one setting in a subclass of `Settings`.

    `check_id` is the id of the system check that reports an invalid value. A value with `is_secret`
    is never displayed.
    """

    name: str

    def __init__(
        self,
        check_id: str,
        default: T,
        validator: Validator,
        *,
        is_secret: bool = False,
    ) -> None:
        self.check_id = check_id
        self.default = default
        self.is_secret = is_secret
        self._validator = validator

    @property
    def allowed(self) -> str:
        """Description of the valid values."""
        return self._validator.allowed

    @overload
    def __get__(self, instance: None, owner: type[Settings]) -> Self: ...
    @overload
    def __get__(self, instance: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, instance: Settings | None, owner: type[Settings]) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(settings, self.name, self.default)
        if not self._validator.is_valid(value):
            raise InvalidSettingError(self, value)
        return value


class Settings:
    """Base class of the settings of an app, whose names share a prefix.

    Access to a setting returns its value or default, or raises `InvalidSettingError`.
    """

    prefix: ClassVar[str]
    #: Settings by name.
    settings: ClassVar[dict[str, Setting[Any]]]

    def __init_subclass__(cls, *, prefix: str = PREFIX) -> None:
        cls.prefix, cls.settings = prefix, {}
        for attribute, setting in vars(cls).items():
            if isinstance(setting, Setting):
                setting.name = prefix + attribute.upper()
                cls.settings[setting.name] = setting


#: Characters. `secrets.token_urlsafe()` returns 43.
SHORTEST_TOKEN = 16


class Conf(Settings):
    """Settings of the package."""

    #: Names or labels of apps whose smoke tests are not discovered.
    skip_apps: Setting[Collection[str]] = Setting(
        "smoketest.E001", (), strings("a list, tuple or set of app names or labels")
    )
    #: Default timeout of a test, in seconds. A test overrides it with its `timeout` attribute.
    timeout: Setting[float] = Setting("smoketest.E002", 10.0, POSITIVE_SECONDS)
    #: Default slow threshold of a test, in seconds. A test overrides it with its `slow_after`
    #: attribute.
    slow_after: Setting[float] = Setting("smoketest.E003", 1.0, POSITIVE_SECONDS)
    #: Deadline of a run, in seconds. Tests that are running then time out, and tests that have not
    #: started are not run.
    run_timeout: Setting[float] = Setting("smoketest.E004", 25.0, POSITIVE_SECONDS)
    #: Maximum wait for a row or table lock in a database, in seconds.
    lock_timeout: Setting[float] = Setting("smoketest.E005", 1.0, POSITIVE_SECONDS)
    #: Number of threads that run tests. 0 runs them in the calling thread, without timeouts.
    workers: Setting[int] = Setting("smoketest.E006", 4, COUNT)
    #: Expected interval between full runs, in seconds. Scrapes start runs at this interval, and
    #: alerts report missing runs. None disables both.
    interval: Setting[float | None] = Setting(
        "smoketest.E007", 60.0, POSITIVE_SECONDS.or_none("if no runs are expected")
    )
    #: Whether a scrape of the metrics starts a background run if one is due.
    run_on_scrape: Setting[bool] = Setting("smoketest.E012", True, BOOLEAN)
    #: Default maximum age of a result that the endpoint returns, in seconds. An older result makes
    #: the endpoint start a run.
    max_age: Setting[float] = Setting("smoketest.E008", 5.0, SECONDS)
    #: Directory of the results store. The default is a directory in `$STATE_DIRECTORY`, which
    #: systemd sets, or else in the directory for temporary files.
    state_dir: Setting[str] = Setting(
        "smoketest.E009",
        "",
        Validator(
            "an absolute path of a directory, as a string or a Path, or empty",
            lambda value: not value or isinstance(value, (str, os.PathLike)),
            lambda value: not value or Path(value).is_absolute(),
        ),
    )
    #: Tokens that give access to the endpoints. By default, no token is required.
    tokens: Setting[Collection[str]] = Setting(
        "smoketest.E015",
        (),
        Validator(
            f"a list or tuple of strings of {SHORTEST_TOKEN} characters or more, without spaces",
            lambda value: isinstance(value, (list, tuple)),
            lambda value: all(map(_is_token, value)),
        ),
        is_secret=True,
    )
    #: Whether the endpoint returns PASS or FAIL, without details, to clients without a token.
    public_status: Setting[bool] = Setting("smoketest.E016", False, BOOLEAN)
    #: Whether messages and exceptions are shown to clients without full access. If it is None,
    #: they are shown if `DEBUG` is True. Otherwise, these clients see only the message that was
    #: passed to a failed assertion, and the class of an exception.
    public_details: Setting[bool | None] = Setting(
        "smoketest.E021", None, BOOLEAN.or_none("to follow DEBUG")
    )
    #: URL of the site, for links in alerts. By default, alerts have no links to the site.
    public_url: Setting[str] = Setting(
        "smoketest.E010",
        "",
        string(
            "a URL that starts with http:// or https://, or empty",
            lambda value: not value or value.startswith(("http://", "https://")),
        ),
    )
    #: URLconf in which `SmokeTestMiddleware` looks for the endpoints, such as
    #: `"shop.urls_public"`, on a site whose middleware selects a URLconf for each host. The
    #: middleware then only serves requests whose host is an IP address or a name without a dot. By
    #: default, it looks in `ROOT_URLCONF`, for all hosts.
    urlconf: Setting[str] = Setting(
        "smoketest.E019",
        "",
        string(
            "the dotted path of a module, or empty",
            lambda value: all(map(str.isidentifier, value.split("."))) or value == "",
        ),
    )
    #: Whether django-prometheus also exports the metrics.
    django_prometheus: Setting[bool] = Setting("smoketest.E013", False, BOOLEAN)
    #: Name of the site, which differs from that of every other site on the same Prometheus or
    #: Pushgateway. It is the label `django_project` of all metrics. By default, they do not have
    #: this label.
    project: Setting[str] = Setting(
        "smoketest.E017",
        "",
        string(
            "a string of at most 63 letters, digits and _ . -, with a letter or digit at both ends,"
            " or empty",
            lambda value: value == "" or is_label_value(value),
        ),
    )
    #: Release that is deployed, such as a version number. It is part of reports and metrics.
    release: Setting[str] = Setting("smoketest.E011", "", STRING)

    @property
    def shows_details_to_all(self) -> bool:
        """Whether clients without full access see the details of results."""
        return settings.DEBUG if self.public_details is None else self.public_details


def _is_token(value: object) -> bool:
    """Return whether the value is a valid token: hard to guess, and valid in an HTTP header."""
    if not isinstance(value, str) or len(value) < SHORTEST_TOKEN:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def unknown_settings(known: Collection[str]) -> dict[str, str]:
    """Return the names of unknown ``SMOKETEST_*`` settings, each with a hint."""
    unknown = sorted(
        name for name in dir(settings) if name.startswith(PREFIX) and name not in known
    )
    names = f"The settings are {', '.join(known)}."
    return {name: did_you_mean(name, known) or names for name in unknown}


def is_set_by_a_test(name: str) -> bool:
    """Return whether `override_settings` or a similar tool has set the setting."""
    lazy: Any = settings
    values = lazy._wrapped
    while isinstance(values, UserSettingsHolder):
        if name in vars(values):
            return True
        values = values.default_settings
    return False


conf = Conf()


def secrets_of_site() -> set[str]:
    """Return the secret values of the settings and the environment variables.

    In addition to the names that `smoketest.coordination.redaction` matches, those of Django's
    error reports are matched (`SafeExceptionReporterFilter`), which a site can extend.
    """
    reporter: Any = get_default_exception_reporter_filter()
    hidden: re.Pattern[str] = getattr(
        reporter, "hidden_settings", SafeExceptionReporterFilter.hidden_settings
    )
    lazy: Any = settings
    values = lazy._wrapped  # avoids the warnings about deprecated settings
    overridden = {
        name: getattr(values, name)
        for name in dir(values)
        if name.isupper() and values.is_overridden(name)
    }
    return secrets_in(overridden, hidden) | secrets_in(os.environ, hidden)
