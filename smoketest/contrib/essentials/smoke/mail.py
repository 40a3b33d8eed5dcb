"""One class for each mail server."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.inventory import is_wanted, mailers
from smoketest.contrib.essentials.mail import MailTest

for _alias in mailers():
    if is_wanted("mail", _alias):
        variants.define(globals(), MailTest, _alias, alias=_alias)
