"""System checks of the django-health-check installation and of the configured checks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.utils.module_loading import import_string

from smoketest.conf import InvalidSettingError
from smoketest.contrib.health_check.conf import HealthCheckConf, conf
from smoketest.contrib.health_check.targets import find_checks


def check_health_check(**_: Any) -> list[CheckMessage]:
    """Check for the library (E183), importable checks (E184), and at least one check (W181)."""
    if find_spec("health_check") is None:
        return [
            Error(
                "smoketest.contrib.health_check requires django-health-check; it is not installed.",
                hint='Install it, or remove the app from INSTALLED_APPS: "smoketest.contrib'
                '.essentials" tests databases, caches, storages and mail without it.',
                id="smoketest.E183",
            )
        ]
    try:
        entries = conf.checks
    except InvalidSettingError:
        return []  # reported by smoketest.checks
    if entries is None:
        return _check_discovery()
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
                    hint="Use the format of HealthCheckView.checks, such as 'health_check.Cache'.",
                    id="smoketest.E184",
                )
            )
    return messages


def _check_discovery() -> list[CheckMessage]:
    try:
        has_checks = bool(find_checks())
    except Exception:  # noqa: BLE001 - reported by Django and by discovery
        return []
    if has_checks:
        return []
    return [
        Warning(
            "smoketest.contrib.health_check found no checks of django-health-check: none are"
            " registered, and the URLconf contains no HealthCheckView.",
            hint=f"Add the checks to {HealthCheckConf.checks.name}, or remove the app.",
            id="smoketest.W181",
        )
    ]
