"""Options of the database in the settings of the site."""

from __future__ import annotations

from smoketest import SmokeTest
from tests.faults.fault import fault, hang, passes, times_out, write
from tests.ledger.models import Account

AS_EVER = "Isolation does not depend on the database settings of the site."

#: An option of `sqlite3.connect` since Python 3.12, with which ``rollback()`` does nothing.
AUTOCOMMIT = {"OPTIONS": {"autocommit": True}}


@fault(AS_EVER, sqlite=passes("passed", "passed"), settings=AUTOCOMMIT)
class SQLiteAutocommit(SmokeTest):
    """Writes where the site sets the option autocommit of sqlite3."""

    def test_1(self) -> None:
        write()

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()


@fault(AS_EVER, sqlite=times_out(), settings=AUTOCOMMIT, timeout=2)
def sqlite_autocommit_hangs() -> None:
    """Writes and hangs where the site sets the option autocommit of sqlite3."""
    write()
    hang()
