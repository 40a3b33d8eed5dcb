"""The settings ``SMOKETEST_HTTP_*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoketest.conf import Setting, Settings
from smoketest.validators import is_number


class HttpConf(Settings, prefix="SMOKETEST_HTTP_"):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: What to ask, and what to expect.
    checks: Setting[Sequence[str | dict[str, Any]]] = Setting(
        "smoketest.E121",
        (),
        "a list or tuple of paths, addresses or dicts with a 'url'",
        lambda value: (
            isinstance(value, (list, tuple))
            and all(isinstance(entry, (str, dict)) for entry in value)
        ),
        is_secret=True,  # headers and bodies may hold some
    )
    #: Days that a certificate has to be valid yet, where an entry does not say.
    certificate_days: Setting[float] = Setting(
        "smoketest.E122",
        14,
        "a number of days, 0 or more",
        lambda value: is_number(value) and value >= 0,
    )


conf = HttpConf()
