"""Run smoke tests on a place, and look at what they left there."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from smoketest import SmokeTest
from smoketest.results import Report, Selection
from smoketest.runner.discovery import Suite
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import options
from tests.faults.fault import suite
from tests.faults.places import Place
from tests.ledger.models import Account
from tests.servers.processes import wait_for

#: Seconds after the report within which a run has freed everything in a database; the code that
#: hangs in the rows does so for longer.
FREE_WITHIN = 20.0


class Healthy(SmokeTest):
    """What a site's own tests are like."""

    place: Place

    def test_it(self) -> None:
        for alias in self.place.aliases:
            accounts = Account.objects.using(alias)
            self.assertEqual(accounts.count(), 2)
            accounts.create(name="healthy")
            accounts.filter(id=1).update(name="changed")
            self.assertEqual(accounts.get(name="healthy").name, "healthy")
            self.assertTrue(connections[alias].in_atomic_block)


def run_suite(tests: Suite, abandoned: LocallyAbandoned | None = None, **changes: object) -> Report:
    """Run the tests as the site does, on one thread unless told otherwise."""
    return run(
        tests,
        Selection(),
        options(**{"workers": 1, **changes}),
        abandoned=abandoned or LocallyAbandoned(),
        carried={},
    )


def assert_next_run_is_healthy(place: Place) -> None:
    """A test that writes and reads on each database passes."""
    Healthy.place = place
    report = run_suite(suite(Healthy, "healthy"))
    assert [(r.outcome, r.message) for r in report.results] == [("passed", "")]


def assert_nothing_is_held(place: Place, within: float = FREE_WITHIN) -> None:
    """No connection, transaction or lock of a smoke test is left."""
    wait_for(
        place.held,
        lambda held: not held,
        within=within,
        every=place.look_every,
        what="the end of all that smoke tests hold",
    )


def changes(place: Place) -> list[str]:
    """What is not as it was before all tests."""
    now = place.fingerprint()
    return [name for name in place.pristine | now if place.pristine.get(name) != now.get(name)]


def outcomes(report: Report) -> Sequence[str]:
    """In the order of the report."""
    return tuple(str(result.outcome) for result in report.results)
