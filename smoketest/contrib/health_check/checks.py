"""System checks: django-health-check is there, and has checks that can be imported."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.utils.module_loading import import_string

from smoketest.conf import InvalidSettingError
from smoketest.contrib.health_check.conf import HealthCheckConf, conf
from smoketest.contrib.health_check.targets import find_checks


def check_health_check(**_: Any) -> list[CheckMessage]:
    """The library is there (E183), and what the setting names (E184); there are checks (W181)."""
    if find_spec("health_check") is None:
        return [
            Error(
                "smoketest.contrib.health_check needs django-health-check, which is not installed.",
                hint='Install it, or take the app out of INSTALLED_APPS: "smoketest.contrib'
                '.essentials" checks databases, caches, storages and mail without it.',
                id="smoketest.E183",
            )
        ]
    try:
        entries = conf.checks
    except InvalidSettingError:
        return []  # smoketest.checks complains of it
    if entries is None:
        return _without_any()
    messages: list[CheckMessage] = []
    for number, entry in enumerate(entries, 1):
        target = entry[0] if isinstance(entry, (list, tuple)) else entry
        try:
            _ = import_string(target) if isinstance(target, str) else target
        except Exception as error:  # noqa: BLE001 - a module may raise anything
            messages.append(
                Error(
                    f"{HealthCheckConf.checks.name}: check {number}, {target!r}, cannot be"
                    f" imported: {error}",
                    hint="Write it as in HealthCheckView.checks, such as 'health_check.Cache'.",
                    id="smoketest.E184",
                )
            )
    return messages


def _without_any() -> list[CheckMessage]:
    try:
        found = find_checks()
    except Exception:  # noqa: BLE001 - Django complains of the URLconf, and so does discovery
        return []
    if found:
        return []
    return [
        Warning(
            "smoketest.contrib.health_check found no check of django-health-check: none is"
            " registered, and no HealthCheckView is in the URLconf.",
            hint=f"Name the checks in {HealthCheckConf.checks.name}, or remove the app.",
            id="smoketest.W181",
        )
    ]
