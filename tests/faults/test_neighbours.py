"""How long production waits, at most, beside a smoke test that hangs or meets a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from django.db import connection

from smoketest import SmokeTest
from smoketest.abandoned import LocallyAbandoned
from smoketest.discovery import Suite
from tests.faults.conftest import VENDORS, Places
from tests.faults.fault import hang, released, suite, write
from tests.faults.looking import assert_nothing_is_held, changes, outcomes, run_suite
from tests.faults.places import Place, site
from tests.ledger.models import Account
from tests.servers.processes import wait_for

#: Seconds that a smoke test may take here, that it may wait for a lock, and, beyond these, that
#: production may have to wait.
TIMEOUT, LOCK_TIMEOUT, SLACK = 1.0, 1.0, 1.5

CHANGE_1 = "UPDATE ledger_account SET name = 'the site''s' WHERE id = 1"
CHANGE_2 = "UPDATE ledger_account SET name = 'another' WHERE id = 2"

RecordProperty = Callable[[str, object], None]


@pytest.fixture
def place(request: pytest.FixtureRequest, places: Places) -> Iterator[Place]:
    """A place in whose site the tests run; it has to be as before at their end."""
    place = places(request.param)
    released.clear()
    _at_work.clear()
    with place.put_right(), site(place.databases()):
        yield place
        released.set()
        assert_nothing_is_held(place)
        assert changes(place) == []


each = pytest.mark.parametrize("place", VENDORS, indirect=True)
servers = pytest.mark.parametrize("place", VENDORS[1:], indirect=True)

#: Set by a smoke test that has done what production is going to meet.
_at_work = threading.Event()


class Neighbour(threading.Thread):
    """Production, which runs a statement once the smoke test is at work, however long it takes."""

    def __init__(self, place: Place, statement: str) -> None:
        super().__init__()
        self._place = place
        self._statement = statement
        #: Seconds that the statement took.
        self.waited = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        with closing(self._place.connect(patience=60)) as production:
            cursor = production.cursor()
            _at_work.wait(10)
            began = time.monotonic()
            try:
                cursor.execute(self._statement)
            except Exception as error:  # noqa: BLE001 - raised by `meet`
                self.error = error
            self.waited = time.monotonic() - began


def meet(
    place: Place,
    case: type[SmokeTest],
    statement: str,
    outcome: str,
    record: RecordProperty,
    timeout: float = TIMEOUT,
) -> float:
    """Run the test with production beside it; how many seconds production waited."""
    abandoned = LocallyAbandoned()
    neighbour = Neighbour(place, statement)
    neighbour.start()
    report = run_suite(
        suite(case, "neighbours", timeout=timeout), abandoned, lock_timeout=LOCK_TIMEOUT
    )
    neighbour.join(60)
    assert outcomes(report) == (outcome,), report.results[0].message
    assert neighbour.error is None
    record("seconds production waited", round(neighbour.waited, 3))
    print(f"{place.title}: production waited {neighbour.waited:.2f} s")  # noqa: T201 - the figure
    released.set()
    wait_for(abandoned.count, lambda count: not count, within=5, what="the threads to end")
    return neighbour.waited


def work() -> None:
    """What smoke tests here begin with: a row is changed."""
    Account.objects.filter(id=1).update(name="changed")
    _at_work.set()


@each
def test_hang__production_writes_the_same_row(
    place: Place, record_property: RecordProperty
) -> None:
    """It waits until the smoke test has run out of time, and no longer."""

    class Hangs(SmokeTest):
        def test_it(self) -> None:
            work()
            hang()

    waited = meet(place, Hangs, CHANGE_1, "timed_out", record_property)
    assert 0.1 < waited <= TIMEOUT + SLACK


@each
def test_hang__production_writes_another_row(place: Place, record_property: RecordProperty) -> None:
    """It does not wait at all, but on SQLite, where a file has one writer."""

    class Hangs(SmokeTest):
        def test_it(self) -> None:
            work()
            hang()

    waited = meet(place, Hangs, CHANGE_2, "timed_out", record_property)
    assert waited <= (TIMEOUT + SLACK if place.vendor == "sqlite" else 0.5)


@each
def test_hang__production_reads(place: Place, record_property: RecordProperty) -> None:
    """It does not wait."""

    class Hangs(SmokeTest):
        def test_it(self) -> None:
            work()
            hang()

    waited = meet(place, Hangs, "SELECT * FROM ledger_account", "timed_out", record_property)
    assert waited <= 0.5


@servers
def test_hang_in_the_database__production_writes_the_same_row(
    place: Place, record_property: RecordProperty
) -> None:
    """A query that never ends is cut off as well."""

    class Hangs(SmokeTest):
        def test_it(self) -> None:
            work()
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_sleep(30)"
                    if connection.vendor == "postgresql"
                    else "SELECT SLEEP(30)"
                )

    waited = meet(place, Hangs, CHANGE_1, "timed_out", record_property)
    assert waited <= TIMEOUT + SLACK


@servers
def test_hang__production_changes_the_schema(place: Place, record_property: RecordProperty) -> None:
    """A migration waits for the smoke test no longer than a write does."""

    class Hangs(SmokeTest):
        def test_it(self) -> None:
            work()
            hang()

    alter = "ALTER TABLE ledger_account ADD COLUMN migrated integer"
    waited = meet(place, Hangs, alter, "timed_out", record_property)
    place.restore()
    assert waited <= TIMEOUT + SLACK


@servers
def test_lock__production_does_not_queue_behind_a_smoke_test_that_waits(
    place: Place, record_property: RecordProperty
) -> None:
    """A smoke test that waits for production gives up, and lets go of what it had changed."""

    class Waits(SmokeTest):
        def test_it(self) -> None:
            work()
            Account.objects.filter(id=2).update(name="changed")

    with place.production(CHANGE_2):
        waited = meet(place, Waits, CHANGE_1, "errored", record_property, timeout=10)
    assert waited <= LOCK_TIMEOUT + SLACK


@each
@pytest.mark.usefixtures("place")
def test_each_other__both_write_the_same_row() -> None:
    """Smoke tests that run at the same time wait for each other, and both pass."""

    class One(SmokeTest):
        def test_it(self) -> None:
            work()
            time.sleep(0.1)
            self.assertEqual(Account.objects.filter(name="changed").count(), 1)

    class Another(One):
        """It does the same."""

    both = Suite(classes=(*suite(One, "one").classes, *suite(Another, "another").classes))
    report = run_suite(both, workers=2)
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


@each
def test_end__production_writes_the_same_row(place: Place, record_property: RecordProperty) -> None:
    """Beside a healthy smoke test it waits until that has been rolled back."""

    class Healthy(SmokeTest):
        def test_it(self) -> None:
            work()
            write()
            time.sleep(0.3)

    waited = meet(place, Healthy, CHANGE_1, "passed", record_property)
    assert waited <= 0.3 + 0.7
