"""System checks: Celery is there, and the settings fit each other."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error

from smoketest.conf import InvalidSettingError
from smoketest.contrib.celery.conf import CeleryConf, conf


def check_celery(**_: Any) -> list[CheckMessage]:
    """Celery is installed (E148); beat is not late before it can have been in time (E149)."""
    if find_spec("celery") is None:
        return [
            Error(
                "smoketest.contrib.celery needs Celery, which is not installed.",
                hint="Install it: pip install celery; or take the app out of INSTALLED_APPS.",
                id="smoketest.E148",
            )
        ]
    try:
        fits = conf.beat_max_age > conf.beat_interval
    except InvalidSettingError:
        return []  # smoketest.checks complains of it
    if fits:
        return []
    return [
        Error(
            f"{CeleryConf.beat_max_age.name} is not more than {CeleryConf.beat_interval.name}:"
            " beat would be late each time.",
            hint="Three times the interval is a good value.",
            id="smoketest.E149",
        )
    ]
