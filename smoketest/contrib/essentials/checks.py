"""System checks: what the settings name, the site has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.conf import EssentialsConf, conf


def check_names(**_: Any) -> list[CheckMessage]:
    """Nothing is left out, or read only, that the site does not have (E110, E111)."""
    try:
        skip, read_only = conf.skip, conf.read_only_databases
        known = targets.names()
    except InvalidSettingError:
        return []  # of which the package complains
    messages: list[CheckMessage] = []
    for entry in sorted(skip):
        part, dot, name = entry.partition(".")
        if dot and name not in known.get(part, ()):
            setting = EssentialsConf.skip.name
            messages.append(_unknown(setting, entry, part, known.get(part, ()), "smoketest.E110"))
    for alias in sorted(set(read_only) - set(known["databases"])):
        setting = EssentialsConf.read_only_databases.name
        messages.append(_unknown(setting, alias, "databases", known["databases"], "smoketest.E111"))
    return messages


def _unknown(
    setting: str, entry: str, part: str, known: Collection[str], check_id: str
) -> CheckMessage:
    hint = f"Of {part} there are {', '.join(known)}." if known else f"Write {part!r} alone."
    return Error(f"{setting} names {entry!r}, which the site does not have.", hint, id=check_id)
