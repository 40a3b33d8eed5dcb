"""System checks of the Celery installation and of related settings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.celery.conf import CeleryConf, conf


def check_celery(**_: Any) -> list[CheckMessage]:
    """Check that Celery is installed (E148), and the maximum age of a heartbeat (E149)."""
    if find_spec("celery") is None:
        return [
            Error(
                "smoketest.contrib.celery requires Celery, which is not installed.",
                hint="Run pip install celery, or remove the app from INSTALLED_APPS.",
                id="smoketest.E148",
            )
        ]
    try:
        is_valid = conf.beat_max_age > conf.beat_interval
    except InvalidSettingError:
        return []  # reported by smoketest.checks
    if is_valid:
        return []
    return [
        Error(
            f"{CeleryConf.beat_max_age.name} is {conf.beat_max_age:g}; it must be greater than"
            f" {CeleryConf.beat_interval.name}, which is {conf.beat_interval:g}.",
            hint="Set it to at least three times the interval.",
            id="smoketest.E149",
        )
    ]
