"""Smoke tests of the second database."""

from archive.models import YearlySales
from smoketest import SmokeTest, tag


@tag("db", "archive")
class ArchiveTest(SmokeTest):
    """Uses the archive alone, so that it says nothing of the shop's own database."""

    databases = {"archive"}
    timeout = 3
    maintainer = "accounting"
    runbook_url = "https://wiki.example.com/runbooks/archive"

    def test_past_years_can_be_read(self) -> None:
        """The archive answers and holds at least one year."""
        self.assertTrue(
            YearlySales.objects.exists(),
            "The archive is empty: restore its last backup before the next year is closed.",
        )

    def test_year_can_be_added(self) -> None:
        """The archive can be written to."""
        YearlySales.objects.create(year=1455, copies=180, revenue="5400.00")
        self.assertEqual(
            YearlySales.objects.get(year=1455).copies,
            180,
            "The archive does not keep what is written to it: check that no copy in read-only "
            "mode has taken its place.",
        )
