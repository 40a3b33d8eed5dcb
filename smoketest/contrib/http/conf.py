"""The settings ``SMOKETEST_HTTP_*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoketest.conf import Setting, Settings
from smoketest.validators import Validator, number

DAYS = number("a number of days, 0 or more", lambda value: value >= 0)


class HttpConf(Settings, prefix="SMOKETEST_HTTP_"):
    """Settings of the app."""

    #: Requests to send, and the expected responses.
    checks: Setting[Sequence[str | dict[str, Any]]] = Setting(
        "smoketest.E121",
        (),
        Validator(
            "a list or tuple of paths, URLs or dicts with a 'url'",
            lambda value: isinstance(value, (list, tuple)),
            lambda value: all(isinstance(entry, (str, dict)) for entry in value),
        ),
        is_secret=True,  # headers and bodies may contain secrets
    )
    #: Minimum number of days that a certificate must remain valid. An entry overrides it with its
    #: `certificate_days`.
    certificate_days: Setting[float] = Setting(
        "smoketest.E122",
        14,
        DAYS,
    )


conf = HttpConf()
