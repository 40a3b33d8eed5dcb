"""The suite as checks of django-health-check."""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from health_check.base import HealthCheck
from health_check.views import HealthCheckView

from bench_site.suites import get_action

_action = get_action()


@dataclass
class Check(HealthCheck):
    """A check that executes a test of the suite, synchronously."""

    number: int
    timeout = timedelta(seconds=getattr(settings, "BENCHMARK_TIMEOUT", 5))

    def run(self) -> None:
        """Execute the action of the suite."""
        _action()


class View(HealthCheckView):
    """A view with one check for each test of the suite."""

    checks = tuple((Check, {"number": number}) for number in range(settings.TESTS))
