"""Smoke tests of the archive database."""

from archive.models import YearlySales
from smoketest import SmokeTest, tag


@tag("db", "archive")
class ArchiveTest(SmokeTest):
    """Tests that use only the archive, so they pass when the default database is down."""

    databases = {"archive"}
    timeout = 3
    maintainer = "accounting"
    runbook_url = "https://wiki.example.com/runbooks/archive"

    def test_past_years_can_be_read(self) -> None:
        """The archive answers and contains at least one year."""
        self.assertTrue(
            YearlySales.objects.exists(),
            "The archive is empty. Restore its last backup before the next year is closed.",
        )

    def test_year_can_be_added(self) -> None:
        """The archive can be written to."""
        YearlySales.objects.create(year=1455, copies=180, revenue="5400.00")
        self.assertEqual(
            YearlySales.objects.get(year=1455).copies,
            180,
            "The archive did not return the row that was written. Check whether the database was "
            "replaced by a read-only copy.",
        )
