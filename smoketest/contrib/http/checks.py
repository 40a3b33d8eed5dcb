"""System checks of the HTTP client and of ``SMOKETEST_HTTP_CHECKS``."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.http.conf import HttpConf, conf
from smoketest.contrib.http.targets import InvalidEntryError, parse

#: Oldest supported release of urllib3; pyproject.toml has the reason.
OLDEST_CLIENT = (2, 7)
INSTALL = 'Install it: pip install "django-smoketest[http]".'


def check_http(**_: Any) -> list[CheckMessage]:
    """Check each entry (E123), and that urllib3 is installed if an entry is a URL (E124)."""
    messages: list[CheckMessage] = []
    has_url = False
    try:
        entries = conf.checks
    except InvalidSettingError:
        return messages  # reported as E121
    for number, entry in enumerate(entries):
        try:
            has_url |= not parse(entry).is_local
        except InvalidEntryError as error:
            where = f"{HttpConf.checks.name}[{number}]"
            messages.append(Error(f"{where}: {error}", hint=error.hint, id="smoketest.E123"))
    if has_url and (missing := describe_missing_client()):
        messages.append(Error(missing, hint=INSTALL, id="smoketest.E124"))
    return messages


def describe_missing_client() -> str:
    """Return why URLs cannot be requested, or an empty string."""
    oldest = ".".join(map(str, OLDEST_CLIENT))
    required = f"smoketest.contrib.http requires urllib3 {oldest} or later"
    if find_spec("urllib3") is None:
        return f"{required}, which is not installed."
    installed = version("urllib3")
    match = re.match(r"(\d+)\.(\d+)", installed)
    if match and (int(match[1]), int(match[2])) < OLDEST_CLIENT:
        return f"{required}; {installed} is installed."
    return ""
