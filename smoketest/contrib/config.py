"""What the apps of ready-made smoke tests have in common."""

from __future__ import annotations

from typing import ClassVar

from django.apps import AppConfig

from smoketest.setting import Settings


class ContribConfig(AppConfig):
    """An app of ready-made smoke tests; its settings are checked with those of the package."""

    #: Django takes the one class of the module ``apps`` that may be the default; this is none.
    default = False
    smoke_settings: ClassVar[type[Settings]]

    def __init_subclass__(cls) -> None:
        cls.default = True
