"""A site with three databases from different vendors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import connections, transaction

from smoketest import SmokeTest
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import Backend, site
from tests.faults.conftest import Backends
from tests.faults.fault import LONG, hang, sql, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.hanging import assert_hanging, released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)

#: Vendors by alias.
ALIASES = {"default": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}


@pytest.fixture
def site_backends(backends: Backends) -> Iterator[list[Backend]]:
    """Return the backends of a site with these aliases."""
    all_backends = {alias: backends(vendor) for alias, vendor in ALIASES.items()}
    reset()
    with site({alias: backend.databases()["default"] for alias, backend in all_backends.items()}):
        yield list(all_backends.values())
    released.set()


def assert_nothing_remains(site_backends: list[Backend]) -> None:
    for backend in site_backends:
        assert_nothing_held(backend)
        assert changes(backend) == []


class WritesToAll(SmokeTest):
    """Each test writes to all databases, and sees two accounts on each."""

    __test__ = False  # for pytest

    def test_1(self) -> None:
        for alias in connections:
            self.assertEqual(Account.objects.using(alias).count(), 2)
            with transaction.atomic(using=alias, durable=True):
                write(alias=alias)
            Account.objects.using(alias).filter(id=1).update(name=f"changed on {alias}")
            self.assertEqual(Account.objects.using(alias).count(), 3)

    test_2 = test_1


def test_databases__all_rolled_back(site_backends: list[Backend]) -> None:
    """Tests that write to all databases are rolled back on all of them."""
    report = run_suite(suite(WritesToAll, "databases"))
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]
    assert_nothing_remains(site_backends)


@pytest.mark.parametrize("alias", ALIASES)
def test_databases__commit_on_one(site_backends: list[Backend], alias: str) -> None:
    """A test that tries to commit on one database is errored, and rolled back on all."""

    class TriesToCommit(WritesToAll):
        def test_1(self) -> None:
            super().test_1()
            with suppress(Exception):
                sql("COMMIT", alias)

    report = run_suite(suite(TriesToCommit, "databases"))
    assert outcomes(report) == ("errored", "passed")
    assert f"'{alias}'" in report.results[0].message
    assert_nothing_remains(site_backends)


def test_databases__hanging_test(site_backends: list[Backend]) -> None:
    """A hanging test releases its locks on all databases, and the next test passes."""

    class WritesAndHangs(WritesToAll):
        def test_1(self) -> None:
            super().test_1()
            hang()

    abandoned = LocallyAbandoned()
    # The first timeout is long enough to write to all databases before the test hangs.
    report = run_suite(suite(WritesAndHangs, "databases", timeouts=(3, LONG)), abandoned)
    assert outcomes(report) == ("timed_out", "passed"), [r.message for r in report.results]
    assert_nothing_remains(site_backends)
    assert_hanging()
    released.set()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    assert_nothing_remains(site_backends)


def test_databases__one_down(site_backends: list[Backend], backends: Backends) -> None:
    """Only tests that use the database that is down are errored."""
    databases = {
        alias: p.databases()["default"] for alias, p in zip(ALIASES, site_backends, strict=True)
    }
    databases["mariadb"] = backends("mysql").databases()["down"]

    class UsesDownDatabase(SmokeTest):
        def test_1(self) -> None:
            for alias in connections:
                write(alias=alias)

        def test_2(self) -> None:
            for alias in ("default", "postgresql"):
                self.assertEqual(Account.objects.using(alias).count(), 2)
                write(alias=alias)

    with site(databases):
        report = run_suite(suite(UsesDownDatabase, "databases"))
    assert outcomes(report) == ("errored", "passed"), [r.message for r in report.results]
    assert_nothing_remains(site_backends)
