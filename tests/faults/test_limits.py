"""When the limits inside the database strike, beside the time-out of the test."""

from __future__ import annotations

import pytest
from django.db import connection

from smoketest import SmokeTest
from tests.faults.conftest import Places
from tests.faults.fault import suite
from tests.faults.looking import outcomes, run_suite
from tests.faults.places import site

TIMEOUT = 60


class Looks(SmokeTest):
    """It reads the limit of its own statements."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_statement_time")
            (limit,) = cursor.fetchone()
        self.assertGreaterEqual(limit, TIMEOUT + 0.2, "A KILL at that moment would take 2 s.")
        self.assertLess(limit, TIMEOUT + 0.5)


@pytest.mark.xdist_group("mariadb")
def test_statement_limit__of_mariadb_comes_after_the_kill(places: Places) -> None:
    """It is for those whom nobody kills, and in nobody's way."""
    place = places("mysql")
    with place.put_right(), site(place.databases()):
        report = run_suite(suite(Looks, "limits", timeout=TIMEOUT))
    assert outcomes(report) == ("passed",), [r.message for r in report.results]
