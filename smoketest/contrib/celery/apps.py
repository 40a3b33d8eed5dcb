"""App configuration of ``smoketest.contrib.celery``."""

from __future__ import annotations

from smoketest.contrib.celery.checks import check_celery
from smoketest.contrib.celery.conf import CeleryConf
from smoketest.contrib.config import ContribConfig


class CeleryConfig(ContribConfig):
    name = "smoketest.contrib.celery"
    label = "smoketest_celery"
    verbose_name = "Smoke tests of Celery"
    smoke_settings = CeleryConf
    smoke_check = staticmethod(check_celery)
