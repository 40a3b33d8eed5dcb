"""Third-party backends: those that derive from Django's, and one with another driver."""

from __future__ import annotations

import importlib.util

import pytest
from django.db import connection, transaction

from smoketest import SmokeTest
from smoketest.checks import check_vendors
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import site
from tests.faults.conftest import Backends
from tests.faults.fault import hang, sql, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.hanging import released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for
from tests.servers.services import missing

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("vendor", "engine"),
    [
        ("postgresql", "django_prometheus.db.backends.postgresql"),
        ("mysql", "django_prometheus.db.backends.mysql"),
        ("sqlite", "django_prometheus.db.backends.sqlite3"),
        ("postgresql", "psqlextra.backend"),
    ],
)
def test_derived_backend__has_the_guarantees_of_django_backends(
    backends: Backends, vendor: str, engine: str
) -> None:
    """Roll back, refuse statements and driver calls, enforce read_only, and stop a hung test."""
    # Not in the test environment, because they require certain versions of Django.
    pytest.importorskip(engine)
    reset()

    class UsesBackend(SmokeTest):
        def test_1_writes(self) -> None:
            write()
            with transaction.atomic():
                write("in a savepoint")
            self.assertEqual(len(list(Account.objects.iterator())), 4)

        def test_2_sees_nothing(self) -> None:
            self.assertEqual(Account.objects.count(), 2)

        def test_3_commits(self) -> None:
            write()
            sql("COMMIT")

        def test_4_ends_transaction_by_driver(self) -> None:
            write()
            connection.connection.rollback()

        def test_5_hangs(self) -> None:
            write()
            hang()

    class ReadsOnly(SmokeTest):
        read_only = True

        def test_it(self) -> None:
            write()

    backend = backends(vendor)
    databases = backend.databases()
    databases["default"]["ENGINE"] = engine
    abandoned = LocallyAbandoned()
    with backend.restore_on_error(), site(databases):
        assert [m for m in check_vendors() if "'default'" in m.msg] == []
        timeouts = (60, 60, 60, 60, 0.3)
        report = run_suite(suite(UsesBackend, "derived", timeouts=timeouts), abandoned)
        read_only = run_suite(suite(ReadsOnly, "derived"))
        released.set()
        wait_for(abandoned.count, lambda count: not count, what="the threads to end")
        connection.close()
    results = [result.message for result in report.results]
    assert outcomes(report) == ("passed", "passed", "errored", "errored", "timed_out"), results
    assert results[2].startswith("Refused on database 'default': COMMIT.")
    assert results[3].startswith("Refused on database 'default': the driver's rollback()")
    assert outcomes(read_only) == ("errored",)
    assert_nothing_held(backend)
    assert changes(backend) == []


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
