"""A site with all three databases at once: what holds for one holds for all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import connections, transaction

from smoketest import SmokeTest
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.conftest import Places
from tests.faults.fault import LONG, hang, sql, suite, write
from tests.faults.looking import assert_nothing_is_held, changes, outcomes, run_suite
from tests.faults.places import Place, site
from tests.hanging import assert_hanging, released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)

#: Alias and kind of database.
ALIASES = {"default": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}


@pytest.fixture
def together(places: Places) -> Iterator[list[Place]]:
    """The places of a site whose aliases are `ALIASES`."""
    all_places = {alias: places(vendor) for alias, vendor in ALIASES.items()}
    reset()
    with site({alias: place.databases()["default"] for alias, place in all_places.items()}):
        yield list(all_places.values())
    released.set()


def assert_nothing_is_left(together: list[Place]) -> None:
    for place in together:
        assert_nothing_is_held(place)
        assert changes(place) == []


class Writes(SmokeTest):
    """Each of its tests finds two accounts on each database, and writes to all."""

    __test__ = False  # for pytest

    def test_1(self) -> None:
        for alias in connections:
            self.assertEqual(Account.objects.using(alias).count(), 2)
            with transaction.atomic(using=alias, durable=True):
                write(alias=alias)
            Account.objects.using(alias).filter(id=1).update(name=f"changed on {alias}")
            self.assertEqual(Account.objects.using(alias).count(), 3)

    test_2 = test_1


def test_together__all_are_rolled_back(together: list[Place]) -> None:
    """Tests that write to all three are rolled back on all three."""
    report = run_suite(suite(Writes, "together"))
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]
    assert_nothing_is_left(together)


@pytest.mark.parametrize("alias", ALIASES)
def test_together__an_escape_on_one_keeps_nothing_on_the_others(
    together: list[Place], alias: str
) -> None:
    """A test that tries to commit on one is errored, and rolled back on all."""

    class Escapes(Writes):
        def test_1(self) -> None:
            super().test_1()
            with suppress(Exception):
                sql("COMMIT", alias)

    report = run_suite(suite(Escapes, "together"))
    assert outcomes(report) == ("errored", "passed")
    assert f"'{alias}'" in report.results[0].message
    assert_nothing_is_left(together)


def test_together__a_hang_frees_all(together: list[Place]) -> None:
    """A test that hangs after writing to all three holds nothing on any; the next one passes."""

    class Hangs(Writes):
        def test_1(self) -> None:
            super().test_1()
            hang()

    abandoned = LocallyAbandoned()
    # The first timeout is long enough to write to all three databases before the test hangs.
    report = run_suite(suite(Hangs, "together", timeouts=(3, LONG)), abandoned)
    assert outcomes(report) == ("timed_out", "passed"), [r.message for r in report.results]
    assert_nothing_is_left(together)
    assert_hanging()
    released.set()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    assert_nothing_is_left(together)


def test_together__one_that_is_down_fails_its_own_tests(
    together: list[Place], places: Places
) -> None:
    """A test that uses the database that is down is errored; others use the others."""
    databases = {
        alias: p.databases()["default"] for alias, p in zip(ALIASES, together, strict=True)
    }
    databases["mariadb"] = places("mysql").databases()["down"]

    class OneIsDown(SmokeTest):
        def test_1(self) -> None:
            for alias in connections:
                write(alias=alias)

        def test_2(self) -> None:
            for alias in ("default", "postgresql"):
                self.assertEqual(Account.objects.using(alias).count(), 2)
                write(alias=alias)

    with site(databases):
        report = run_suite(suite(OneIsDown, "together"))
    assert outcomes(report) == ("errored", "passed"), [r.message for r in report.results]
    assert_nothing_is_left(together)
