"""What the apps of ready-made smoke tests have in common."""

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
    """An app of ready-made smoke tests; its settings are checked with those of the package."""

    #: Django takes the one class of the module ``apps`` that may be the default; this is none.
    default = False
    smoke_settings: ClassVar[type[Settings]]
    #: A system check of its own, beside those of the settings.
    smoke_check: ClassVar[Check]

    def __init_subclass__(cls) -> None:
        cls.default = True

    def ready(self) -> None:
        register(_while_installed(self.name, type(self).smoke_check), TAG)


@cache
def _while_installed(app: str, check: Check) -> Check:
    """The check, of a site that has the app: in tests one process has several sites."""

    @wraps(check)
    def check_site(**kwargs: Any) -> list[CheckMessage]:
        return check(**kwargs) if apps.is_installed(app) else []

    return check_site
