"""System check of ``SMOKETEST_HTTP_CHECKS``."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.http.conf import HttpConf, conf
from smoketest.contrib.http.targets import InvalidEntryError, parse


def check_entries(**_: Any) -> list[CheckMessage]:
    """Check that the keys and values of each entry are valid (E123)."""
    try:
        entries = conf.checks
    except InvalidSettingError:
        return []  # reported as E121
    messages: list[CheckMessage] = []
    for number, entry in enumerate(entries):
        try:
            parse(entry)
        except InvalidEntryError as error:
            where = f"{HttpConf.checks.name}[{number}]"
            messages.append(Error(f"{where}: {error}", hint=error.hint, id="smoketest.E123"))
    return messages
