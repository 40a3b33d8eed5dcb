"""App configuration of ``smoketest.contrib.health_check``."""

from __future__ import annotations

from smoketest.contrib.config import ContribConfig
from smoketest.contrib.health_check.checks import check_health_check
from smoketest.contrib.health_check.conf import HealthCheckConf


class HealthCheckConfig(ContribConfig):
    name = "smoketest.contrib.health_check"
    label = "smoketest_health_check"
    verbose_name = "Smoke tests of django-health-check's checks"
    smoke_settings = HealthCheckConf
    smoke_check = staticmethod(check_health_check)
