"""Settings: defaults, valid and invalid values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from smoketest.conf import Conf, InvalidSettingError, conf, unknown_settings


class Case(NamedTuple):
    attribute: str
    default: object
    allowed: str
    valid: tuple[object, ...]
    invalid: tuple[object, ...]


SECONDS = "a number of seconds greater than 0"
INVALID_SECONDS = (True, False, "5", [5], math.nan, math.inf, -math.inf, 5j)
INVALID_POSITIVE_SECONDS = (None, 0, 0.0, -1, *INVALID_SECONDS)

BOOLEANS = ((True, False), (None, 0, 1, "True", "no"))
CASES = {
    "SMOKETEST_SKIP_APPS": Case(
        "skip_apps",
        (),
        "a list, tuple or set of app names or labels",
        ([], ["polls"], ("polls", "blog"), {"polls"}, frozenset({"polls"})),
        ("polls", None, [1], {"polls": True}, 5),
    ),
    "SMOKETEST_TIMEOUT": Case("timeout", 10.0, SECONDS, (1, 0.001, 1e6), INVALID_POSITIVE_SECONDS),
    "SMOKETEST_SLOW_AFTER": Case(
        "slow_after", 1.0, SECONDS, (1, 0.001, 1e6), INVALID_POSITIVE_SECONDS
    ),
    "SMOKETEST_RUN_TIMEOUT": Case(
        "run_timeout", 25.0, SECONDS, (1, 0.001, 1e6), INVALID_POSITIVE_SECONDS
    ),
    "SMOKETEST_LOCK_TIMEOUT": Case(
        "lock_timeout", 1.0, SECONDS, (1, 0.001, 1e6), INVALID_POSITIVE_SECONDS
    ),
    "SMOKETEST_WORKERS": Case(
        "workers",
        4,
        "a whole number, 0 or more",
        (0, 1, 64),
        (-1, 1.0, True, False, "4", None, math.inf),
    ),
    "SMOKETEST_INTERVAL": Case(
        "interval",
        60.0,
        "a number of seconds greater than 0, or None if no runs are expected",
        (None, 30, 0.5),
        (0, -1, *INVALID_SECONDS),
    ),
    "SMOKETEST_MAX_AGE": Case(
        "max_age", 5.0, "a number of seconds, 0 or more", (0, 0.5, 60), (None, -1, *INVALID_SECONDS)
    ),
    "SMOKETEST_STATE_DIR": Case(
        "state_dir",
        "",
        "an absolute path of a directory, as a string or a Path, or empty",
        ("", "/var/lib/site", Path("/var/lib/site")),
        ("state", "./state", "~/state", Path("state"), Path(), 5, b"/var/lib/site", ["/var"]),
    ),
    "SMOKETEST_TOKENS": Case(
        "tokens",
        (),
        "a list or tuple of strings of 16 characters or more, without spaces",
        ([], [16 * "x"], (20 * "~", "0123456789abcdef")),
        (None, 20 * "x", ["short"], [20 * "x", 5], {20 * "x"}, [8 * "x y"], [20 * "\xe9"]),
    ),
    "SMOKETEST_PUBLIC_DETAILS": Case(
        "public_details",
        None,
        "True or False, or None to follow DEBUG",
        (None, *BOOLEANS[0]),
        tuple(value for value in BOOLEANS[1] if value is not None),
    ),
    "SMOKETEST_PUBLIC_STATUS": Case("public_status", False, "True or False", *BOOLEANS),
    "SMOKETEST_PUBLIC_URL": Case(
        "public_url",
        "",
        "a URL that starts with http:// or https://, or empty",
        ("", "http://localhost:8000", "https://example.com/site/"),
        ("example.com", "//example.com", "ftp://example.com", " https://x", None, b"http://x", 5),
    ),
    "SMOKETEST_RUN_ON_SCRAPE": Case("run_on_scrape", True, "True or False", *BOOLEANS),
    "SMOKETEST_DJANGO_PROMETHEUS": Case("django_prometheus", False, "True or False", *BOOLEANS),
    "SMOKETEST_URLCONF": Case(
        "urlconf",
        "",
        "the dotted path of a module, or empty",
        ("", "urls", "shop.urls_public"),
        (None, 5, b"shop.urls", ("shop.urls",), "shop/urls.py", "shop.", ".urls", "shop urls"),
    ),
    "SMOKETEST_PROJECT": Case(
        "project",
        "",
        "a string of at most 63 letters, digits and _ . -, with a letter or digit at both ends, or"
        " empty",
        ("", "shop", "shop.example.com", "a_b-C.9", "7", 63 * "x"),
        (
            None,
            5,
            b"shop",
            "my shop",
            "shop\n",
            "-shop",
            "shop.",
            'a"b',
            "{x}",
            "shöp",
            64 * "x",
        ),
    ),
    "SMOKETEST_RELEASE": Case(
        "release", "", "a string", ("", "1.2.3", "\N{ROCKET}"), (None, 5, 1.2, b"1.2.3", ("1",))
    ),
}


@pytest.fixture(autouse=True)
def defaults(settings: Any) -> None:
    """Remove the only setting of the package that the settings of the tests contain."""
    del settings.SMOKETEST_PUBLIC_DETAILS


VALID = [(name, value) for name, case in CASES.items() for value in case.valid]
INVALID = [(name, value) for name, case in CASES.items() for value in case.invalid]


def test_settings__all_are_tested() -> None:
    """Every setting has a case in this module and a unique check id."""
    assert set(CASES) == set(Conf.settings)
    assert len({setting.check_id for setting in Conf.settings.values()}) == len(Conf.settings)


@pytest.mark.parametrize("name", CASES)
def test_setting__default(name: str) -> None:
    case = CASES[name]
    value = getattr(conf, case.attribute)
    assert value == case.default
    assert type(value) is type(case.default)


@pytest.mark.parametrize(("name", "value"), VALID)
def test_setting__valid(name: str, value: object) -> None:
    """A valid value is returned unchanged."""
    with override_settings(**{name: value}):
        assert getattr(conf, CASES[name].attribute) is value


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_setting__invalid(name: str, value: object) -> None:
    """The message quotes an invalid value and states what is allowed; others are unaffected."""
    with override_settings(**{name: value}):
        with pytest.raises(InvalidSettingError) as caught:
            getattr(conf, CASES[name].attribute)
        displayed = (
            "invalid" if name == "SMOKETEST_TOKENS" else repr(value)
        )  # secrets are not displayed
        assert str(caught.value) == f"{name} is {displayed}; it must be {CASES[name].allowed}."
        assert caught.value.setting is Conf.settings[name]
        assert isinstance(caught.value, ImproperlyConfigured)
        for other, case in CASES.items():
            if other != name:
                assert getattr(conf, case.attribute) == case.default


def test_setting__is_not_cached() -> None:
    """Overriding a setting takes effect at once."""
    assert conf.timeout == 10.0
    with override_settings(SMOKETEST_TIMEOUT=3):
        assert conf.timeout == 3
        with override_settings(SMOKETEST_TIMEOUT=4):
            assert Conf().timeout == 4
        assert conf.timeout == 3
    assert conf.timeout == 10.0


def test_setting__class_attribute() -> None:
    """Access on the class returns the descriptor, for documentation and checks."""
    setting = Conf.timeout
    assert (setting.name, setting.default, setting.allowed) == ("SMOKETEST_TIMEOUT", 10.0, SECONDS)


def test_unknown_settings__none() -> None:
    """Known settings and settings without the prefix are ignored."""
    known: dict[str, Any] = {name: case.default for name, case in CASES.items()}
    with override_settings(**known, SMOKE_SCREEN=1):
        assert unknown_settings(Conf.settings) == {}


def test_unknown_settings__suggestion() -> None:
    """An unknown setting is returned with a similar name, if there is one."""
    with override_settings(SMOKETEST_TIME_OUT=5, SMOKETEST_ZZZZZZZZZZZZ=1):
        assert unknown_settings(Conf.settings) == {
            "SMOKETEST_TIME_OUT": "Did you mean SMOKETEST_TIMEOUT?",
            "SMOKETEST_ZZZZZZZZZZZZ": f"The settings are {', '.join(Conf.settings)}.",
        }
