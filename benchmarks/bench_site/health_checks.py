"""The suite as checks of django-health-check."""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from health_check.base import HealthCheck
from health_check.views import HealthCheckView

from bench_site.suites import deed

_do = deed()


@dataclass
class Check(HealthCheck):
    """Does what a test of the suite does; no coroutine, as most code of a site is none."""

    number: int
    timeout = timedelta(seconds=getattr(settings, "BENCHMARK_TIMEOUT", 5))

    def run(self) -> None:
        """Do it."""
        _do()


class View(HealthCheckView):
    """As many checks as the suite has tests."""

    checks = tuple((Check, {"number": number}) for number in range(settings.TESTS))
