"""Limits in the database that apply in addition to the timeout of the test."""

from __future__ import annotations

import pytest
from django.db import connection

from smoketest import SmokeTest
from tests.faults.backends import site
from tests.faults.conftest import Backends
from tests.faults.fault import suite
from tests.faults.harness import outcomes, run_suite

TIMEOUT = 60


class ReadsLimit(SmokeTest):
    """Reads the limit of its own statements."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_statement_time")
            (limit,) = cursor.fetchone()
        self.assertGreaterEqual(limit, TIMEOUT + 0.2, "A simultaneous KILL would take 2 s.")
        self.assertLess(limit, TIMEOUT + 0.5)


@pytest.mark.xdist_group("mariadb")
def test_statement_limit__mariadb(backends: Backends) -> None:
    """The limit is longer than the timeout, so that KILL takes effect first."""
    backend = backends("mysql")
    with backend.restore_on_error(), site(backend.databases()):
        report = run_suite(suite(ReadsLimit, "limits", timeout=TIMEOUT))
    assert outcomes(report) == ("passed",), [r.message for r in report.results]
