"""Smoke tests that run Django's system checks, except database checks, which may be slow."""

import sys
from collections.abc import Iterable
from time import monotonic

from django.core.checks import WARNING, CheckMessage, run_checks

from smoketest.case import SmokeTest, options, tag
from smoketest.contrib.essentials import apps
from smoketest.contrib.essentials.explain import failing
from smoketest.contrib.essentials.targets import is_wanted

#: Maximum number of messages that are shown.
SHOWN = 5
#: Seconds after the start of a web worker in which it has to answer its first requests.
WARM_UP = 60

if is_wanted("system_checks"):

    @tag("deploy")
    class SystemChecksTest(SmokeTest):
        timeout = 15
        slow_after = 5
        every = 600

        def setUp(self) -> None:
            is_command = sys.argv[1:2] == ["smoketest"]
            if not is_command and monotonic() - apps.STARTED_AT < WARM_UP:
                self.skipTest(
                    f"A web worker runs the system checks from {WARM_UP} s after its start on,"
                    " because they may be slow. manage.py smoketest runs them at once."
                )

        def test_find_no_errors(self) -> None:
            """Django's system checks find no errors (manage.py check)."""
            with failing("The system checks cannot be run", "Run: manage.py check"):
                found = run_checks(databases=[])
            self._show([message for message in found if message.is_serious()], "manage.py check")

        @options(severity="warning", every=3600)
        def test_are_ready_for_production(self) -> None:
            """Django's deployment checks find no errors or warnings (manage.py check --deploy)."""
            command = "manage.py check --deploy"
            with failing("The system checks cannot be run", f"Run: {command}"):
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
                f"{'; '.join(messages[:SHOWN])}{more}. Run {command} for hints, or silence"
                " intended ones with SILENCED_SYSTEM_CHECKS.",
            )
