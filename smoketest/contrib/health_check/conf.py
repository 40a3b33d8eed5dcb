"""The settings ``SMOKETEST_HEALTH_CHECK_*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoketest.conf import Setting, Settings
from smoketest.validators import BOOLEAN, Validator


def is_entry(value: object) -> bool:
    """Return whether a value is an entry of `HealthCheckView.checks` of django-health-check."""
    if isinstance(value, (tuple, list)):
        return len(value) == 2 and is_entry(value[0]) and isinstance(value[1], dict)
    return isinstance(value, (str, type))


class HealthCheckConf(Settings, prefix="SMOKETEST_HEALTH_CHECK_"):
    """Settings of the app."""

    #: Checks to run, in the format of `HealthCheckView.checks`. None: all checks in the registry of
    #: django-health-check 3 and in the views of the URLconf.
    checks: Setting[Sequence[Any] | None] = Setting(
        "smoketest.E181",
        None,
        Validator(
            "a list or tuple whose members are dotted paths, classes, or pairs of one of these and"
            " a dict of options",
            lambda value: isinstance(value, (list, tuple)),
            lambda value: all(map(is_entry, value)),
        ).or_none("for all checks of the site"),
        is_secret=True,  # options may contain passwords
    )
    #: Whether a `ServiceWarning` fails the critical test of a check, as it causes status 500
    #: in django-health-check. Otherwise, it fails a test of severity "warning".
    warnings_as_errors: Setting[bool] = Setting("smoketest.E182", False, BOOLEAN)


conf = HealthCheckConf()
