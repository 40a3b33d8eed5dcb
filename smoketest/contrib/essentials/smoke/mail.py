"""Smoke tests of mail: one class for each mail server."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.mail import MailTest
from smoketest.contrib.essentials.targets import is_wanted, mailers

for _alias in mailers():
    if is_wanted("mail", _alias):
        variants.define(globals(), MailTest, _alias, alias=_alias)
