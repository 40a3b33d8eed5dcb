"""System checks of the names in the settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.conf import EssentialsConf, conf


def check_names(**_: Any) -> list[CheckMessage]:
    """Check that excluded targets (E110) and read-only databases (E111) exist."""
    try:
        skip, read_only = conf.skip, conf.read_only_databases
        known = targets.names()
    except InvalidSettingError:
        return []  # reported by smoketest.checks
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
    hint = (
        f"The names in {part!r} are {', '.join(known)}."
        if known
        else f"Use {part!r} without a name."
    )
    return Error(f"{setting} contains {entry!r}, which does not exist.", hint, id=check_id)
