"""Run smoke tests on a backend and check what remains afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from smoketest import SmokeTest
from smoketest.results import Report, Selection
from smoketest.runner.discovery import Suite
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import options
from tests.faults.backends import Backend
from tests.faults.fault import suite
from tests.ledger.models import Account
from tests.servers.processes import wait_for

#: Maximum time in seconds after the report until a run has released everything in a database.
#: Hanging code in the rows runs longer.
RELEASE_WITHIN = 20.0


class Healthy(SmokeTest):
    """Typical tests of a site."""

    backend: Backend

    def test_it(self) -> None:
        for alias in self.backend.aliases:
            accounts = Account.objects.using(alias)
            self.assertEqual(accounts.count(), 2)
            accounts.create(name="healthy")
            accounts.filter(id=1).update(name="changed")
            self.assertEqual(accounts.get(name="healthy").name, "healthy")
            self.assertTrue(connections[alias].in_atomic_block)


def run_suite(tests: Suite, abandoned: LocallyAbandoned | None = None, **changes: object) -> Report:
    """Run the tests as the site does, with one worker by default."""
    return run(
        tests,
        Selection(),
        options(**{"workers": 1, **changes}),
        abandoned=abandoned or LocallyAbandoned(),
        carried={},
    )


def assert_next_run_is_healthy(backend: Backend) -> None:
    """Check that a test can read and write on each database."""
    Healthy.backend = backend
    report = run_suite(suite(Healthy, "healthy"))
    assert [(r.outcome, r.message) for r in report.results] == [("passed", "")]


def assert_nothing_held(backend: Backend, within: float = RELEASE_WITHIN) -> None:
    """Check that no connection, transaction or lock of a smoke test remains."""
    wait_for(
        backend.held_resources,
        lambda held: not held,
        within=within,
        every=backend.poll_interval,
        what="the release of everything that smoke tests hold",
    )


def changes(backend: Backend) -> list[str]:
    """Return the names of everything that differs from the initial state."""
    now = backend.fingerprint()
    return [
        name
        for name in backend.initial_state | now
        if backend.initial_state.get(name) != now.get(name)
    ]


def outcomes(report: Report) -> Sequence[str]:
    """Return the outcomes in the order of the report."""
    return tuple(str(result.outcome) for result in report.results)
