"""Locks and deadlocks between production and smoke tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from django.db import connection, transaction

from smoketest import SmokeTest
from tests.faults.fault import LONG, fails, fault, passes, refused, sql, times_out, write
from tests.faults.places import Place
from tests.ledger.models import Account
from tests.servers.processes import wait_for

GIVES_UP = "A test waits for production's locks for at most SMOKETEST_LOCK_TIMEOUT."
VICTIM = "In a deadlock, the smoke test is aborted immediately."
LIFTED = "A test that changes its limits is stopped anyway."

_GIVES_UP: dict[str, Any] = {
    "sqlite": fails("locked", word="errored: locked"),
    "postgresql": fails("lock timeout", "{holder}", word="errored, names the holder"),
    "mariadb": fails("lock wait timeout", "{holder}", word="errored, names the holder"),
}
_NOBODY_NAMED: dict[str, Any] = {
    **_GIVES_UP,
    "mariadb": fails("lock wait timeout", word="errored: locked"),
}


@contextmanager
def row_locked(place: Place) -> Iterator[None]:
    """Production has changed a row and not committed yet."""
    with place.production(place.lock_row):
        yield


@contextmanager
def table_locked(place: Place) -> Iterator[None]:
    """Production has locked the table."""
    begin, statement = {
        "sqlite": ("BEGIN EXCLUSIVE", "SELECT 1"),
        "postgresql": ("BEGIN", "LOCK TABLE ledger_account IN ACCESS EXCLUSIVE MODE"),
        "mysql": ("", "LOCK TABLES ledger_account WRITE"),
    }[place.vendor]
    with place.production(statement, begin=begin):
        yield


@contextmanager
def schema_change_waits(place: Any) -> Iterator[None]:
    """Production reads in a long transaction, and a change of the schema waits behind it."""
    alter = "ALTER TABLE ledger_account ADD COLUMN waiting integer"

    def change() -> None:
        with suppress(Exception):
            changer.cursor().execute(alter)

    with ExitStack() as stack:
        stack.enter_context(place.production("SELECT * FROM ledger_account"))
        changer = stack.enter_context(place.production(begin=""))
        thread = threading.Thread(target=change)
        thread.start()
        wait_for(place.waiting, what="the change of the schema to wait")
        try:
            yield
        finally:
            place.cancel(changer)
            thread.join(60)


@contextmanager
def both_wanted(place: Place) -> Iterator[None]:
    """Production locks the first account, and goes for the second when the test says so."""
    _go_on.clear()
    failed: list[Exception] = []
    # InnoDB picks the one that has changed less; PostgreSQL who looks for a deadlock first.
    entries = ", ".join(["(1, 0)"] * 20)
    much = f"INSERT INTO ledger_entry (account_id, amount) VALUES {entries}"  # noqa: S608
    with place.production(much, place.lock_row) as other:

        def go_on() -> None:
            _go_on.wait(60)
            try:
                other.cursor().execute(place.lock_row.replace("id = 1", "id = 2"))
            except Exception as error:  # noqa: BLE001 - looked at below
                failed.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive()
    assert failed == []


_go_on = threading.Event()


def _change(row: int) -> None:
    Account.objects.filter(id=row).update(name=f"changed {row}")


@fault(GIVES_UP, **_GIVES_UP, meanwhile=row_locked)
def locked_row() -> None:
    """Changes a row that a transaction of production has changed."""
    _change(1)


@fault(
    GIVES_UP,
    postgresql=_GIVES_UP["postgresql"],
    mariadb=_GIVES_UP["mariadb"],
    meanwhile=row_locked,
)
def locked_row_is_locked() -> None:
    """Locks a row with select_for_update that production has changed."""
    with transaction.atomic():
        list(Account.objects.select_for_update())


@fault(GIVES_UP, passes(), meanwhile=row_locked)
def locked_row_is_read(test: SmokeTest) -> None:
    """Reads a row that production has changed and not committed: no lock is met."""
    test.assertEqual(Account.objects.get(id=1).name, "the site's")


@fault(GIVES_UP, postgresql=passes(), mariadb=passes(), meanwhile=row_locked)
def locked_row_is_skipped(test: SmokeTest) -> None:
    """Locks the rows that production has not locked, and changes them."""
    with transaction.atomic():
        free = list(Account.objects.select_for_update(skip_locked=True))
        test.assertEqual([account.id for account in free], [2])
        _change(2)


@fault(GIVES_UP, **_NOBODY_NAMED, meanwhile=table_locked)
def locked_table() -> None:
    """Reads a table that production has locked."""
    Account.objects.count()


@fault(
    GIVES_UP,
    postgresql=fails("lock timeout", word="errored: locked"),
    mariadb=_NOBODY_NAMED["mariadb"],
    meanwhile=schema_change_waits,
)
def behind_a_schema_change() -> None:
    """Reads a table for which a change of the schema waits."""
    Account.objects.count()


@fault(
    GIVES_UP,
    sqlite=passes("errored", "passed", word="errored, others not affected"),
    postgresql=fails(
        "lock timeout", outcomes=("errored", "passed"), word="errored, others not affected"
    ),
    mariadb=fails(
        "lock wait timeout", outcomes=("errored", "passed"), word="errored, others not affected"
    ),
    meanwhile=row_locked,
)
class LockedRowAndAnotherTest(SmokeTest):
    """Meets a lock, after which another test of the class works elsewhere."""

    def test_1(self) -> None:
        write(alias="other")
        _change(1)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.using("other").count(), 2)
        write(alias="other")


@fault(
    LIFTED,
    sqlite=refused("busy_timeout"),
    postgresql=times_out(),
    mariadb=times_out(),
    meanwhile=row_locked,
)
def lock_limit_lifted() -> None:
    """Lifts the limit for locks, and changes a row that production has changed."""
    sql({
        "sqlite": "PRAGMA busy_timeout = 60000",
        "postgresql": "SET lock_timeout = 0",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 60",
    }[connection.vendor])  # fmt: skip
    _change(1)


_VICTIM: dict[str, Any] = {
    "postgresql": fails("lock timeout", word="errored"),
    "mariadb": fails("deadlock", word="errored", lock_timeout=LONG),  # detected at once
}


@fault(VICTIM, **_VICTIM, meanwhile=both_wanted)
def deadlock(test: Any) -> None:
    """Wants a row that production holds, while production waits for one that the test holds."""
    _change(2)
    _go_on.set()
    wait_for(test.place.waiting, what="production to wait")
    _change(1)


@fault(VICTIM, **_VICTIM, meanwhile=both_wanted)
def deadlock_by_production() -> None:
    """Waits for a row that production holds, and then production wants one that the test holds."""
    _change(2)
    threading.Timer(0.1, _go_on.set).start()
    _change(1)


@fault(
    VICTIM,
    postgresql=fails("lock timeout", outcomes=("errored", "passed")),
    mariadb=fails("deadlock", outcomes=("errored", "passed"), lock_timeout=LONG),
    meanwhile=both_wanted,
)
class FixturesAfterDeadlock(SmokeTest):
    """Loses a deadlock inside fixtures of the class, which are as they should be afterwards."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
        deadlock(self)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
