"""View with checks of django-health-check."""

from dataclasses import dataclass

from django.conf import settings
from health_check.base import HealthCheck
from health_check.views import HealthCheckView


@dataclass
class Trivial(HealthCheck):
    """A check of django-health-check that does nothing, with a distinct label."""

    name: str

    async def run(self) -> None:
        """Do nothing."""


class HealthView(HealthCheckView):
    """A view with one check for each smoke test."""

    checks = tuple((Trivial, {"name": f"check-{number}"}) for number in range(settings.TESTS))
