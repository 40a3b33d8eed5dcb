"""``manage.py smoketest``: run the smoke tests here and now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from smoketest import assembly
from smoketest.coordinator import GRACE, BusyError, NothingSelectedError
from smoketest.formats import text
from smoketest.selection import Selection
from smoketest.views import NO_TESTS


class Command(BaseCommand):
    help = (
        "Runs the smoke tests of the site, each in a database transaction that is rolled back, and"
        " prints the report. Exits with 0 if they pass and with 1 if they fail."
    )
    requires_system_checks = ["smoketest"]  # noqa: RUF012 - as Django declares it

    def handle(self, *args: Any, **options: Any) -> None:
        coordinator = assembly.coordinator()
        wait = coordinator.options.run_timeout + GRACE
        try:
            report = coordinator.run(Selection(), wait=wait)
        except NothingSelectedError:
            raise CommandError(NO_TESTS, returncode=3) from None
        except BusyError:
            msg = f"Another run did not end within {wait:g} s, so nothing was run. Try again later."
            raise CommandError(msg) from None
        self.stdout.write(text.render(report))
        self.stderr.write(f"Results stored in {coordinator.store.location}")
        if not report.passed:
            raise SystemExit(1)
