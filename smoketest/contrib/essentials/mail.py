"""Mail: the server lets the site in. Nothing is sent."""

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

#: Seconds for each answer of the server, where the site allows more or any.
PATIENCE = 5


@tag("mail")
class MailTest(SmokeTest):
    alias: ClassVar[str]
    databases = ()
    timeout = 10
    slow_after = 2
    every = 300

    def test_server_lets_the_site_in(self) -> None:
        """The mail server answers, encrypts and takes the password, as the site has set it."""
        where = f"MAILERS[{self.alias!r}]" if targets.has_mailers() else "EMAIL_HOST"
        advice = f"Is it running, can this host reach it, and are {where} and its password right?"
        with failing("The mail server does not let the site in", advice):
            backend = _backend(self.alias)
            if not isinstance(backend, EmailBackend):
                self.skipTest(f"{type(backend).__module__} has no server to connect to.")
            if not targets.has_mailers() and not targets.has_mail_host():
                self.skipTest("No mail server is set: EMAIL_HOST is Django's default.")
            backend.fail_silently = False
            backend.timeout = min(backend.timeout or PATIENCE, PATIENCE)
            try:
                backend.open()
            finally:
                with suppress(OSError):  # it may have hung up already
                    backend.close()


def _backend(alias: str) -> Any:
    if targets.has_mailers():
        return mail.mailers[alias]
    # Named, so that Django 6.1 does not warn of these settings once more.
    options = {"alias": None} if django.VERSION >= (6, 1) else {}
    return import_string(targets.email_setting("EMAIL_BACKEND"))(**options)
