"""Smoke tests of django-health-check: one class for each check of the site."""

from __future__ import annotations

from smoketest.contrib.health_check.cases import HealthCheck, make_tests
from smoketest.contrib.health_check.conf import conf
from smoketest.contrib.health_check.targets import find_checks
from smoketest.contrib.variants import define

for _check in find_checks():
    define(
        globals(),
        HealthCheck,
        _check.name,
        **make_tests(_check, warnings_as_errors=conf.warnings_as_errors),
    )
