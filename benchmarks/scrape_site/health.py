"""The page of django-health-check."""

from dataclasses import dataclass

from django.conf import settings
from health_check.base import HealthCheck
from health_check.views import HealthCheckView


@dataclass
class Trivial(HealthCheck):
    """A check of django-health-check that checks nothing, with a label to tell it by."""

    name: str

    async def run(self) -> None:
        """Pass."""


class HealthView(HealthCheckView):
    """As many checks as there are smoke tests."""

    checks = tuple((Trivial, {"name": f"check-{number}"}) for number in range(settings.TESTS))
