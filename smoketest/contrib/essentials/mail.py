"""Test class for a mail server. No mail is sent."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import django
from django.core import mail
from django.core.mail.backends.smtp import EmailBackend
from django.utils.module_loading import import_string

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials import targets
from smoketest.contrib.essentials.explain import failing

#: Maximum timeout for each reply of the server, in seconds.
TIMEOUT = 5


@tag("mail")
class MailTest(SmokeTest):
    alias: ClassVar[str]
    databases = ()
    timeout = 10
    slow_after = 2
    every = 300

    def test_server_lets_the_site_in(self) -> None:
        """The mail server accepts a connection, TLS and the login, as configured."""
        where = f"MAILERS[{self.alias!r}]" if targets.has_mailers() else "EMAIL_HOST"
        advice = f"Is it running and reachable, and are {where} and its password correct?"
        with failing("Connecting or logging in to the mail server failed", advice):
            backend = _backend(self.alias)
            if not isinstance(backend, EmailBackend):
                self.skipTest(f"{type(backend).__module__} has no server to connect to.")
            if not targets.has_mailers() and not targets.has_mail_host():
                self.skipTest("No mail server is set: EMAIL_HOST is Django's default.")
            if not backend.host:
                self.fail(
                    f"{where} has no host, so no mail can be sent. Set the name of the mail server,"
                    " or use another backend."
                )
            backend.fail_silently = False
            backend.timeout = min(backend.timeout or TIMEOUT, TIMEOUT)
            try:
                backend.open()
            finally:
                with suppress(OSError):  # it may be closed already
                    backend.close()


def _backend(alias: str) -> Any:
    if targets.has_mailers():
        return mail.mailers[alias]
    # The alias avoids another deprecation warning of Django 6.1.
    options = {"alias": None} if django.VERSION >= (6, 1) else {}
    return import_string(targets.email_setting("EMAIL_BACKEND"))(**options)
