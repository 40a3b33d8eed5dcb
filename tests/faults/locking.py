"""Locks and deadlocks between production and smoke tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from smoketest import SmokeTest
from tests.faults.backends import Backend
from tests.faults.fault import LONG, fails, fault, passes, refused, sql, times_out, write
from tests.ledger.models import Account
from tests.servers.processes import wait_for

LOCK_TIMEOUT = "A test waits for production's locks for at most SMOKETEST_LOCK_TIMEOUT."
DEADLOCK = "In a deadlock, the smoke test is aborted immediately."
LIMITS_CHANGED = "A test that changes its limits is stopped anyway."

_LOCK_TIMEOUT: dict[str, Any] = {
    "sqlite": fails("locked", word="errored: locked"),
    "postgresql": fails("lock timeout", "{holder}", word="errored, names the holder"),
    "mariadb": fails("lock wait timeout", "{holder}", word="errored, names the holder"),
}
_HOLDER_UNKNOWN: dict[str, Any] = {
    **_LOCK_TIMEOUT,
    "mariadb": fails("lock wait timeout", word="errored: locked"),
}


@contextmanager
def row_locked_by_production(backend: Backend) -> Iterator[None]:
    """Production has changed a row and not yet committed."""
    with backend.production(backend.lock_row):
        yield


@contextmanager
def table_locked_by_production(backend: Backend) -> Iterator[None]:
    """Production has locked the table."""
    begin, statement = {
        "sqlite": ("BEGIN EXCLUSIVE", "SELECT 1"),
        "postgresql": ("BEGIN", "LOCK TABLE ledger_account IN ACCESS EXCLUSIVE MODE"),
        "mysql": ("", "LOCK TABLES ledger_account WRITE"),
    }[backend.vendor]
    with backend.production(statement, begin=begin):
        yield


@contextmanager
def waiting_schema_change(backend: Any) -> Iterator[None]:
    """Production reads in a long transaction, and a schema change waits for it."""
    alter = "ALTER TABLE ledger_account ADD COLUMN waiting integer"

    def change() -> None:
        with suppress(Exception):
            changer.cursor().execute(alter)

    with ExitStack() as stack:
        stack.enter_context(backend.production("SELECT * FROM ledger_account"))
        changer = stack.enter_context(backend.production(begin=""))
        changer_id = backend.connection_id(changer)
        thread = threading.Thread(target=change)
        thread.start()
        wait_for(backend.waiting_statements, what="the schema change to wait")
        try:
            yield
        finally:
            backend.cancel(changer_id)
            thread.join(60)


@contextmanager
def deadlock_with_production(backend: Backend) -> Iterator[None]:
    """Production locks the first account, and the second when the test allows it."""
    _lock_second.clear()
    failed: list[Exception] = []
    # InnoDB aborts the transaction with fewer changes, PostgreSQL the one that detects the
    # deadlock.
    entries = ", ".join(["(1, 0)"] * 20)
    many_changes = f"INSERT INTO ledger_entry (account_id, amount) VALUES {entries}"  # noqa: S608
    with backend.production(many_changes, backend.lock_row) as other:

        def lock_second_row() -> None:
            _lock_second.wait(60)
            try:
                other.cursor().execute(backend.lock_row.replace("id = 1", "id = 2"))
            except Exception as error:  # noqa: BLE001 - looked at below
                failed.append(error)

        thread = threading.Thread(target=lock_second_row)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive()
    assert failed == []


_lock_second = threading.Event()


def _change(row: int) -> None:
    Account.objects.filter(id=row).update(name=f"changed {row}")


@fault(LOCK_TIMEOUT, **_LOCK_TIMEOUT, context=row_locked_by_production)
def locked_row() -> None:
    """Changes a row that production has changed without committing."""
    _change(1)


@fault(
    LOCK_TIMEOUT,
    postgresql=_LOCK_TIMEOUT["postgresql"],
    mariadb=_LOCK_TIMEOUT["mariadb"],
    context=row_locked_by_production,
)
def locked_row_is_locked() -> None:
    """Locks a row that production has changed, with select_for_update."""
    with transaction.atomic():
        list(Account.objects.select_for_update())


@fault(LOCK_TIMEOUT, passes(), context=row_locked_by_production)
def locked_row_is_read(test: SmokeTest) -> None:
    """Reads a row that production has changed without committing, which requires no lock."""
    test.assertEqual(Account.objects.get(id=1).name, "the site's")


@fault(LOCK_TIMEOUT, postgresql=passes(), mariadb=passes(), context=row_locked_by_production)
def locked_row_is_skipped(test: SmokeTest) -> None:
    """Locks and changes the rows that production has not locked."""
    with transaction.atomic():
        free = list(Account.objects.select_for_update(skip_locked=True))
        test.assertEqual([account.id for account in free], [2])
        _change(2)


_READERS_BLOCKED = replace(_HOLDER_UNKNOWN["sqlite"], in_wal=passes())


@fault(
    LOCK_TIMEOUT,
    **_HOLDER_UNKNOWN | {"sqlite": _READERS_BLOCKED},
    context=table_locked_by_production,
)
def locked_table() -> None:
    """Reads a table that production has locked."""
    Account.objects.count()


@fault(
    LOCK_TIMEOUT,
    postgresql=fails("lock timeout", word="errored: locked"),
    mariadb=_HOLDER_UNKNOWN["mariadb"],
    context=waiting_schema_change,
)
def behind_a_schema_change() -> None:
    """Reads a table that has a waiting schema change."""
    Account.objects.count()


@fault(
    LOCK_TIMEOUT,
    sqlite=passes("errored", "passed", word="errored, others not affected"),
    postgresql=fails(
        "lock timeout", outcomes=("errored", "passed"), word="errored, others not affected"
    ),
    mariadb=fails(
        "lock wait timeout", outcomes=("errored", "passed"), word="errored, others not affected"
    ),
    context=row_locked_by_production,
)
class LockedRowAndAnotherTest(SmokeTest):
    """Waits for a lock; the next test of the class uses other rows."""

    def test_1(self) -> None:
        write(alias="other")
        _change(1)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.using("other").count(), 2)
        write(alias="other")


@fault(
    LIMITS_CHANGED,
    sqlite=refused("busy_timeout"),
    postgresql=times_out(),
    mariadb=times_out(),
    context=row_locked_by_production,
)
def lock_timeout_removed() -> None:
    """Removes the lock timeout, and changes a row that production has changed."""
    sql({
        "sqlite": "PRAGMA busy_timeout = 60000",
        "postgresql": "SET lock_timeout = 0",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 60",
    }[connection.vendor])  # fmt: skip
    _change(1)


@contextmanager
def serializable_transaction_of_production(backend: Backend) -> Iterator[None]:
    """Production has read a row that another transaction then changes."""
    begin = "BEGIN ISOLATION LEVEL SERIALIZABLE"
    with backend.production("SELECT * FROM ledger_account WHERE id = 2", begin=begin) as reader:
        change = backend.lock_row.replace("id = 1", "id = 2")
        with backend.production(change, "COMMIT", begin=begin):
            pass
        _readers[:] = [reader]
        yield


#: The connection of the transaction.
_readers: list[Any] = []


@fault(
    "A read can make a serializable transaction of production fail, which has to be repeated.",
    postgresql=passes(),
    context=serializable_transaction_of_production,
    settings={"OPTIONS": {"isolation_level": 4}},
)
def serializable_reader(test: Any) -> None:
    """Reads a row that a serializable transaction of production then changes."""
    Account.objects.get(id=1)
    with test.assertRaisesRegex(Exception, "could not serialize access"):
        _readers.pop().cursor().execute(test.backend.lock_row)


_DEADLOCK: dict[str, Any] = {
    "postgresql": fails("lock timeout", word="errored"),
    "mariadb": fails("deadlock", word="errored", lock_timeout=LONG),  # detected immediately
}


@fault(DEADLOCK, **_DEADLOCK, context=deadlock_with_production)
def deadlock(test: Any) -> None:
    """Requests a row that production has locked, while production waits for the test."""
    _change(2)
    _lock_second.set()
    wait_for(test.backend.waiting_statements, what="production to wait")
    _change(1)


@fault(DEADLOCK, **_DEADLOCK, context=deadlock_with_production)
def deadlock_by_production() -> None:
    """Waits for a row that production has locked, before production waits for the test."""
    _change(2)
    threading.Timer(0.1, _lock_second.set).start()
    _change(1)


@fault(
    DEADLOCK,
    postgresql=fails("lock timeout", outcomes=("errored", "passed")),
    mariadb=fails("deadlock", outcomes=("errored", "passed"), lock_timeout=LONG),
    context=deadlock_with_production,
)
class FixturesAfterDeadlock(SmokeTest):
    """Is aborted by a deadlock in a class with fixtures, which are intact for the next test."""

    @classmethod
    def setUpClass(cls) -> None:
        write("setUpClass")

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
        deadlock(self)

    def test_2(self) -> None:
        self.assertEqual(Account.objects.count(), 3)
