"""Django's system checks; those that ask databases are left out, as they may take long."""

from collections.abc import Iterable

from django.core.checks import WARNING, CheckMessage, run_checks

from smoketest.case import SmokeTest, options, tag
from smoketest.contrib.essentials.explain import failing
from smoketest.contrib.essentials.targets import is_wanted

#: How many messages are shown.
SHOWN = 5

if is_wanted("system_checks"):

    @tag("deploy")
    class SystemChecksTest(SmokeTest):
        databases = ()
        timeout = 15
        slow_after = 5
        every = 600

        def test_find_no_errors(self) -> None:
            """Django's system checks find no error: manage.py check is content."""
            with failing("The system checks do not run", "Run: manage.py check"):
                found = run_checks(databases=[])
            self._show([message for message in found if message.is_serious()], "manage.py check")

        @options(severity="warning")
        def test_are_ready_for_production(self) -> None:
            """Django's checks for production find nothing to warn of: manage.py check --deploy."""
            command = "manage.py check --deploy"
            with failing("The system checks do not run", f"Run: {command}"):
                found = run_checks(include_deployment_checks=True, databases=[])
            self._show([message for message in found if message.is_serious(WARNING)], command)

        def _show(self, found: Iterable[CheckMessage], command: str) -> None:
            messages = sorted(
                f"{message.id}: {str(message.msg).partition('. ')[0].rstrip('.')}"
                for message in found
                if not message.is_silenced()
            )
            more = f"; and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
            self.assertFalse(
                messages,
                f"{'; '.join(messages[:SHOWN])}{more}. {command} tells what to do;"
                " SILENCED_SYSTEM_CHECKS silences what is meant to be so.",
            )
