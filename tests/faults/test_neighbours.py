"""How long production waits, at most, beside a smoke test that hangs or meets a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from django.db import connection

from smoketest import SmokeTest
from smoketest.results import Result
from smoketest.runner.discovery import Suite
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.conftest import VENDORS, Places
from tests.faults.fault import LONG, hang, suite, write
from tests.faults.looking import assert_nothing_is_held, changes, outcomes, run_suite
from tests.faults.places import Place, site
from tests.hanging import assert_hanging, released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for

#: Timeout of a hanging smoke test, long enough to change a row before it hangs, and lock timeout,
#: both in seconds.
TIMEOUT, LOCK_TIMEOUT = 3.0, 1.0

#: Maximum wait of production in seconds where the alternative is half a minute.
SOON = 20.0

CHANGE_1 = "UPDATE ledger_account SET name = 'the site''s' WHERE id = 1"
CHANGE_2 = "UPDATE ledger_account SET name = 'another' WHERE id = 2"
READ = "SELECT * FROM ledger_account"

RecordProperty = Callable[[str, object], None]


@pytest.fixture
def place(request: pytest.FixtureRequest, places: Places) -> Iterator[Place]:
    """A place in whose site the tests run; it has to be as before at their end."""
    place = places(request.param)
    reset()
    _at_work.clear()
    _production_asks.clear()
    _production_is_done.clear()
    with place.put_right(), site(place.databases()):
        yield place
        released.set()
        assert_nothing_is_held(place)
        assert changes(place) == []


each = pytest.mark.parametrize("place", VENDORS, indirect=True)
servers = pytest.mark.parametrize("place", VENDORS[1:], indirect=True)

#: Set by a smoke test that has done what production is going to meet.
_at_work = threading.Event()
#: Set by production before it runs its statement, and after.
_production_asks = threading.Event()
_production_is_done = threading.Event()


class Neighbour(threading.Thread):
    """Production, which runs a statement once the smoke test is at work, however long it takes."""

    def __init__(self, place: Place, statement: str) -> None:
        super().__init__()
        self._place = place
        self._statement = statement
        #: Seconds that the statement took, and the Unix time at which it ended.
        self.waited = self.ended_at = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        with closing(self._place.connect(patience=60)) as production:
            cursor = production.cursor()
            _at_work.wait(60)
            began = time.monotonic()
            _production_asks.set()
            try:
                cursor.execute(self._statement)
            except Exception as error:  # noqa: BLE001 - raised by `meet`
                self.error = error
            self.waited = time.monotonic() - began
            self.ended_at = time.time()
            _production_is_done.set()


@dataclass(frozen=True)
class Meeting:
    """The result of a smoke test and the wait of production beside it."""

    result: Result
    #: Seconds that production waited, and the Unix time at which its statement ended.
    waited: float
    ended_at: float


def meet(
    place: Place,
    case: type[SmokeTest],
    statement: str,
    outcome: str,
    record: RecordProperty,
    timeout: float = TIMEOUT,
) -> Meeting:
    """Run the test with production beside it; production must end while the test still hangs."""
    abandoned = LocallyAbandoned()
    neighbour = Neighbour(place, statement)
    neighbour.start()
    report = run_suite(
        suite(case, "neighbours", timeout=timeout), abandoned, lock_timeout=LOCK_TIMEOUT
    )
    neighbour.join(60)
    assert not neighbour.is_alive()
    assert_hanging()
    assert outcomes(report) == (outcome,), report.results[0].message
    assert neighbour.error is None
    record("seconds production waited", round(neighbour.waited, 3))
    print(f"{place.title}: production waited {neighbour.waited:.2f} s")  # noqa: T201 - the figure
    released.set()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    return Meeting(report.results[0], neighbour.waited, neighbour.ended_at)


def assert_waited_for_timeout(meeting: Meeting) -> None:
    """Assert that the statement of production ended after the timeout of the test."""
    assert meeting.ended_at >= meeting.result.started_at + 0.9 * TIMEOUT


def work() -> None:
    """What smoke tests here begin with: a row is changed."""
    Account.objects.filter(id=1).update(name="changed")
    _at_work.set()


class Hangs(SmokeTest):
    """A test that changes a row and hangs."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        work()
        hang()


class WaitsForProduction(SmokeTest):
    """A test that changes a row and passes if the statement of production ends meanwhile."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        work()
        self.assertTrue(_production_is_done.wait(LONG / 2))


@each
def test_hang__production_writes_the_same_row(
    place: Place, record_property: RecordProperty
) -> None:
    """It waits until the smoke test has run out of time, and no longer."""
    meeting = meet(place, Hangs, CHANGE_1, "timed_out", record_property)
    assert_waited_for_timeout(meeting)


@each
def test_hang__production_writes_another_row(place: Place, record_property: RecordProperty) -> None:
    """It does not wait at all, but on SQLite, where a file has one writer."""
    if place.vendor == "sqlite":
        meeting = meet(place, Hangs, CHANGE_2, "timed_out", record_property)
        assert_waited_for_timeout(meeting)
    else:
        meet(place, WaitsForProduction, CHANGE_2, "passed", record_property, timeout=LONG)


@each
def test_hang__production_reads(place: Place, record_property: RecordProperty) -> None:
    """It does not wait."""
    meet(place, WaitsForProduction, READ, "passed", record_property, timeout=LONG)


@servers
def test_hang_in_the_database__production_writes_the_same_row(
    place: Place, record_property: RecordProperty
) -> None:
    """A query that never ends is cut off as well."""

    class Queries(SmokeTest):
        def test_it(self) -> None:
            work()
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_sleep(30)"
                    if connection.vendor == "postgresql"
                    else "SELECT SLEEP(30)"
                )

    meeting = meet(place, Queries, CHANGE_1, "timed_out", record_property)
    assert meeting.waited < SOON


@servers
def test_hang__production_changes_the_schema(place: Place, record_property: RecordProperty) -> None:
    """A migration waits for the smoke test no longer than a write does."""
    alter = "ALTER TABLE ledger_account ADD COLUMN migrated integer"
    meeting = meet(place, Hangs, alter, "timed_out", record_property)
    place.restore()
    assert_waited_for_timeout(meeting)


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
        meet(place, Waits, CHANGE_1, "errored", record_property, timeout=LONG)


#: Set by the smoke tests of `test_each_other__both_write_the_same_row` when they begin.
_one_begins, _another_begins = threading.Event(), threading.Event()


@each
@pytest.mark.usefixtures("place")
def test_each_other__both_write_the_same_row() -> None:
    """Smoke tests that run at the same time wait for each other, and both pass."""
    _one_begins.clear()
    _another_begins.clear()

    class One(SmokeTest):
        mine, others = _one_begins, _another_begins

        def test_it(self) -> None:
            self.mine.set()
            work()
            self.assertTrue(self.others.wait(LONG / 2))
            time.sleep(0.1)  # in which the other asks for the same row
            self.assertEqual(Account.objects.filter(name="changed").count(), 1)

    class Another(One):
        """It does the same."""

        mine, others = _another_begins, _one_begins

    both = Suite(classes=(*suite(One, "one").classes, *suite(Another, "another").classes))
    report = run_suite(both, workers=2, lock_timeout=LONG / 2)
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


@each
def test_end__production_writes_the_same_row(place: Place, record_property: RecordProperty) -> None:
    """Beside a healthy smoke test it waits until that has been rolled back."""
    ended_at = []

    class Healthy(SmokeTest):
        def test_it(self) -> None:
            work()
            write()
            self.assertTrue(_production_asks.wait(LONG / 2))
            time.sleep(0.3)  # in which production asks for the row
            ended_at.append(time.time())

    meeting = meet(place, Healthy, CHANGE_1, "passed", record_property, timeout=LONG)
    assert meeting.ended_at >= ended_at[0]
