"""The settings ``SMOKETEST_HEALTH_CHECK_*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoketest.conf import Setting, Settings, boolean


def is_entry(value: object) -> bool:
    """Whether it stands for a check as in `HealthCheckView.checks` of django-health-check."""
    if isinstance(value, (tuple, list)):
        return len(value) == 2 and is_entry(value[0]) and isinstance(value[1], dict)
    return isinstance(value, (str, type))


class HealthCheckConf(Settings, prefix="SMOKETEST_HEALTH_CHECK_"):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: The checks to run, written as in `HealthCheckView.checks`; None: all that the site has, in
    #: the registry of django-health-check 3 and in the views of its URLconf.
    checks: Setting[Sequence[Any] | None] = Setting(
        "smoketest.E181",
        None,
        "a list or tuple of dotted paths, classes, or pairs of one of them and a dict of its"
        " options; or None for all checks that the site has",
        lambda value: (
            value is None or (isinstance(value, (list, tuple)) and all(map(is_entry, value)))
        ),
        is_secret=True,  # options may hold passwords
    )
    #: Whether a `ServiceWarning` fails the check's critical test, as it makes django-health-check
    #: answer 500; else it fails a test of severity "warning".
    warnings_as_errors = boolean("smoketest.E182", False)


conf = HealthCheckConf()
