"""Maximum time that production waits for a smoke test that hangs or waits for a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from django.db import connection, transaction

from smoketest import SmokeTest
from smoketest.results import Result
from smoketest.runner.discovery import Suite
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import Backend, site
from tests.faults.conftest import BACKENDS, VENDORS, Backends
from tests.faults.fault import LONG, hang, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.hanging import assert_hanging, released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for

#: Timeout of a hanging smoke test, long enough to change a row before it hangs, and lock timeout,
#: both in seconds.
TIMEOUT, LOCK_TIMEOUT = 3.0, 1.0

#: Maximum wait of production in seconds, if the alternative is half a minute.
MAX_WAIT = 20.0

CHANGE_1 = "UPDATE ledger_account SET name = 'the site''s' WHERE id = 1"
CHANGE_2 = "UPDATE ledger_account SET name = 'another' WHERE id = 2"
READ = "SELECT * FROM ledger_account"

RecordProperty = Callable[[str, object], None]


@pytest.fixture
def backend(request: pytest.FixtureRequest, backends: Backends) -> Iterator[Backend]:
    """Replace the site's databases, and check that they are unchanged at the end."""
    backend = backends(request.param)
    reset()
    _has_written.clear()
    _production_starts.clear()
    _production_has_finished.clear()
    with backend.restore_on_error(), site(backend.databases()):
        yield backend
        released.set()
        assert_nothing_held(backend)
        assert changes(backend) == []


each = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
servers = pytest.mark.parametrize("backend", VENDORS[1:], indirect=True)

#: Set by a smoke test after it has written the row.
_has_written = threading.Event()
#: Set by production before and after its statement.
_production_starts = threading.Event()
_production_has_finished = threading.Event()


class ProductionThread(threading.Thread):
    """Thread of production that executes a statement after the smoke test has written."""

    def __init__(self, backend: Backend, statement: str) -> None:
        super().__init__()
        self._backend = backend
        self._statement = statement
        #: Duration of the statement in seconds, and the Unix time of its end.
        self.waited = self.ended_at = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        with closing(self._backend.connect(patience=60)) as production:
            cursor = production.cursor()
            _has_written.wait(60)
            began = time.monotonic()
            _production_starts.set()
            try:
                cursor.execute(self._statement)
            except Exception as error:  # noqa: BLE001 - raised by `run_with_production`
                self.error = error
            self.waited = time.monotonic() - began
            self.ended_at = time.time()
            _production_has_finished.set()


@dataclass(frozen=True)
class Interaction:
    """Result of a smoke test, and the wait of production during the test."""

    result: Result
    #: Wait of production in seconds, and the Unix time at which its statement ended.
    waited: float
    ended_at: float


def run_with_production(
    backend: Backend,
    case: type[SmokeTest],
    statement: str,
    outcome: str,
    record: RecordProperty,
    timeout: float = TIMEOUT,
) -> Interaction:
    """Run the test with production alongside, which must finish while the test still hangs."""
    abandoned = LocallyAbandoned()
    production = ProductionThread(backend, statement)
    production.start()
    report = run_suite(
        suite(case, "concurrent", timeout=timeout), abandoned, lock_timeout=LOCK_TIMEOUT
    )
    production.join(60)
    assert not production.is_alive()
    assert_hanging()
    assert outcomes(report) == (outcome,), report.results[0].message
    assert production.error is None
    record("seconds production waited", round(production.waited, 3))
    print(f"{backend.title}: production waited {production.waited:.2f} s")  # noqa: T201 - the figure
    released.set()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    return Interaction(report.results[0], production.waited, production.ended_at)


def assert_waited_for_timeout(interaction: Interaction) -> None:
    """Check that the statement of production ended after the timeout of the test."""
    assert interaction.ended_at >= interaction.result.started_at + 0.9 * TIMEOUT


def change_row() -> None:
    """Change a row, and then start production."""
    Account.objects.filter(id=1).update(name="changed")
    _has_written.set()


class ChangesAndHangs(SmokeTest):
    """Test that changes a row and hangs."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        change_row()
        hang()


class WaitsForProduction(SmokeTest):
    """Test that changes a row and passes if the statement of production ends during the test."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        change_row()
        self.assertTrue(_production_has_finished.wait(LONG / 2))


@each
def test_hang__production_writes_same_row(
    backend: Backend, record_property: RecordProperty
) -> None:
    """Production waits until the smoke test times out, and no longer."""
    interaction = run_with_production(
        backend, ChangesAndHangs, CHANGE_1, "timed_out", record_property
    )
    assert_waited_for_timeout(interaction)


@each
def test_hang__production_writes_another_row(
    backend: Backend, record_property: RecordProperty
) -> None:
    """Production does not wait, except on SQLite, which allows a single writer per file."""
    if backend.vendor == "sqlite":
        interaction = run_with_production(
            backend, ChangesAndHangs, CHANGE_2, "timed_out", record_property
        )
        assert_waited_for_timeout(interaction)
    else:
        run_with_production(
            backend, WaitsForProduction, CHANGE_2, "passed", record_property, timeout=LONG
        )


@each
def test_hang__production_reads(backend: Backend, record_property: RecordProperty) -> None:
    """Production does not wait."""
    run_with_production(backend, WaitsForProduction, READ, "passed", record_property, timeout=LONG)


@each
def test_read__production_writes(backend: Backend, record_property: RecordProperty) -> None:
    """Production does not wait for a test that has only read, also on SQLite."""

    class ReadsAndWaits(SmokeTest):
        def test_it(self) -> None:
            Account.objects.get(id=1)
            _has_written.set()
            self.assertTrue(_production_has_finished.wait(LONG / 2))

    run_with_production(backend, ReadsAndWaits, CHANGE_1, "passed", record_property, timeout=LONG)


@each
def test_read_in_atomic__production_writes(
    backend: Backend, record_property: RecordProperty
) -> None:
    """Production waits only on SQLite without a write-ahead log."""

    class ReadsInAtomicAndHangs(SmokeTest):
        def test_it(self) -> None:
            with transaction.atomic():
                Account.objects.get(id=1)
                _has_written.set()
                if backend.vendor == "sqlite" and not backend.has_wal:
                    hang()
                self.assertTrue(_production_has_finished.wait(LONG / 2))

    if backend.vendor == "sqlite" and not backend.has_wal:
        interaction = run_with_production(
            backend, ReadsInAtomicAndHangs, CHANGE_1, "timed_out", record_property
        )
        assert_waited_for_timeout(interaction)
    else:
        run_with_production(
            backend, ReadsInAtomicAndHangs, CHANGE_1, "passed", record_property, timeout=LONG
        )


@servers
def test_hanging_query__production_writes_same_row(
    backend: Backend, record_property: RecordProperty
) -> None:
    """A hanging query is cancelled at the timeout too."""

    class Queries(SmokeTest):
        def test_it(self) -> None:
            change_row()
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_sleep(30)"
                    if connection.vendor == "postgresql"
                    else "SELECT SLEEP(30)"
                )

    interaction = run_with_production(backend, Queries, CHANGE_1, "timed_out", record_property)
    assert interaction.waited < MAX_WAIT


@servers
def test_hang__production_changes_schema(backend: Backend, record_property: RecordProperty) -> None:
    """A schema migration waits as long as a write."""
    alter = "ALTER TABLE ledger_account ADD COLUMN migrated integer"
    interaction = run_with_production(backend, ChangesAndHangs, alter, "timed_out", record_property)
    backend.restore()
    assert_waited_for_timeout(interaction)


@servers
def test_lock_timeout__releases_production(
    backend: Backend, record_property: RecordProperty
) -> None:
    """A smoke test that waits for production times out and releases its locks."""

    class Waits(SmokeTest):
        def test_it(self) -> None:
            change_row()
            Account.objects.filter(id=2).update(name="changed")

    with backend.production(CHANGE_2):
        run_with_production(backend, Waits, CHANGE_1, "errored", record_property, timeout=LONG)


#: Set by the smoke tests of `test_two_smoke_tests__write_same_row` when they start.
_one_begins, _another_begins = threading.Event(), threading.Event()


@each
@pytest.mark.usefixtures("backend")
def test_two_smoke_tests__write_same_row() -> None:
    """Concurrent smoke tests wait for each other, and both pass."""
    _one_begins.clear()
    _another_begins.clear()

    class One(SmokeTest):
        mine, others = _one_begins, _another_begins

        def test_it(self) -> None:
            self.mine.set()
            change_row()
            self.assertTrue(self.others.wait(LONG / 2))
            time.sleep(0.1)  # the other test requests the same row
            self.assertEqual(Account.objects.filter(name="changed").count(), 1)

    class Another(One):
        mine, others = _another_begins, _one_begins

    both = Suite(classes=(*suite(One, "one").classes, *suite(Another, "another").classes))
    report = run_suite(both, workers=2, lock_timeout=LONG / 2)
    assert outcomes(report) == ("passed", "passed"), [r.message for r in report.results]


@each
def test_pass__production_writes_same_row(
    backend: Backend, record_property: RecordProperty
) -> None:
    """Production waits until a passing smoke test has been rolled back."""
    ended_at = []

    class Healthy(SmokeTest):
        def test_it(self) -> None:
            change_row()
            write()
            self.assertTrue(_production_starts.wait(LONG / 2))
            time.sleep(0.3)  # production requests the row
            ended_at.append(time.time())

    interaction = run_with_production(
        backend, Healthy, CHANGE_1, "passed", record_property, timeout=LONG
    )
    assert interaction.ended_at >= ended_at[0]
