"""Configuration of the Django app."""

from time import monotonic

from django.apps import AppConfig


class SmokeTestConfig(AppConfig):
    name = "smoketest"
    verbose_name = "Smoke tests"

    #: Reading of the monotonic clock when this process had loaded the code of the site. The system
    #: clock may be set later, for example by NTP after a boot.
    code_loaded_at = 0.0

    def ready(self) -> None:
        from smoketest import checks  # noqa: PLC0415 - registers the checks

        self.code_loaded_at = monotonic()
        checks.log_short_harakiri()
        if checks.can_use_django_prometheus():
            from smoketest import services  # noqa: PLC0415 - optional
            from smoketest.exporters import django_prometheus  # noqa: PLC0415 - optional

            django_prometheus.install(services.collector())
