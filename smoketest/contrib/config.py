"""Base class of the app configurations of the built-in checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ClassVar

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, register

from smoketest.conf import Settings

Check = Callable[..., list[CheckMessage]]
TAG = "smoketest"


class ContribConfig(AppConfig):
    """Base class of the app configurations; registers the system check of the app."""

    #: Each ``apps.py`` imports this class; False excludes it when Django looks for the default one.
    default = False
    smoke_settings: ClassVar[type[Settings]]
    #: System check of the app, in addition to the validation of its settings.
    smoke_check: ClassVar[Check]

    def __init_subclass__(cls) -> None:
        cls.default = True

    def ready(self) -> None:
        register(_if_installed(self.name, type(self).smoke_check), TAG)


@cache
def _if_installed(app: str, check: Check) -> Check:
    """Return the check, without messages unless the app is installed.

    Checks stay registered when tests override ``INSTALLED_APPS``.
    """

    @wraps(check)
    def check_if_installed(**kwargs: Any) -> list[CheckMessage]:
        return check(**kwargs) if apps.is_installed(app) else []

    return check_if_installed
