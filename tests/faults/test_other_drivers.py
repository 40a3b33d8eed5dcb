"""Third-party backends with another driver: the guarantees that do not depend on the driver."""

from __future__ import annotations

import importlib.util

import pytest
from django.db import connection, transaction

from smoketest import SmokeTest
from smoketest.checks import check_vendors
from tests.faults.backends import site
from tests.faults.conftest import Backends
from tests.faults.fault import sql, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.ledger.models import Account
from tests.servers.services import missing

pytestmark = pytest.mark.e2e


@pytest.mark.xdist_group("mariadb")
def test_mysql_connector__is_rolled_back_and_guarded(backends: Backends) -> None:
    """Provide the transaction, savepoints and refused statements; say what is not guaranteed."""
    if importlib.util.find_spec("mysql") is None:
        missing("mysql-connector-python is not installed")

    class UsesConnector(SmokeTest):
        def test_1_writes(self) -> None:
            write()
            with transaction.atomic():
                write("in a savepoint")
                transaction.set_rollback(True)
            self.assertEqual(Account.objects.count(), 3)

        def test_2_sees_nothing(self) -> None:
            self.assertEqual(Account.objects.count(), 2)

        def test_3_commits(self) -> None:
            write()
            sql("COMMIT")

        def test_4_commits_implicitly(self) -> None:
            write()
            sql("CREATE TABLE leftover (id integer)")

        def test_5_ends_transaction_by_driver(self) -> None:
            sql("SELECT 1")
            connection.connection.rollback()

    backend = backends("mysql")
    databases = backend.databases()
    databases["default"]["ENGINE"] = "mysql.connector.django"
    with backend.restore_on_error(), site(databases):
        messages = [message for message in check_vendors() if "'default'" in message.msg]
        report = run_suite(suite(UsesConnector, "other_drivers"))
        connection.close()
    results = [result.message for result in report.results]
    assert outcomes(report) == ("passed", "passed", "errored", "errored", "errored"), results
    assert results[2].startswith("Refused on database 'default': COMMIT.")
    assert results[3].startswith("Refused on database 'default': CREATE TABLE")
    assert "was ended by the test" in results[4]
    assert [message.id for message in messages] == ["smoketest.I001"]
    assert_nothing_held(backend)
    assert changes(backend) == []
