"""Transactions and savepoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.http import HttpResponse

from smoketest import SmokeTest
from tests.faults.fault import Expected, fails, fault, passes, sql, write
from tests.ledger.models import Account, Entry

ROLLED_BACK = "Changes of a test are rolled back."
AS_IN_REQUEST = "Transactions work as in a request, and everything is rolled back."
NO_ON_COMMIT = "Callbacks of on_commit() do not run."
NO_SPREAD = "A broken transaction is rolled back and does not affect other tests."
NOT_COMMITTABLE = "A test whose changes could not be committed does not pass."


@fault(ROLLED_BACK, passes())
def plain_write(test: SmokeTest) -> None:
    """Creates, changes and deletes rows."""
    write()
    Account.objects.filter(id=1).update(name="changed")
    Account.objects.filter(id=2).delete()
    test.assertEqual(Account.objects.count(), 2)


@fault(ROLLED_BACK, passes())
def write_to_two_databases() -> None:
    """Writes to two databases of the site."""
    for alias in ("default", "other"):
        write(alias=alias)
        Account.objects.using(alias).filter(id=1).update(name="changed")


@fault(ROLLED_BACK, postgresql=passes(), mariadb=passes())
def two_aliases_of_one_database(test: SmokeTest) -> None:
    """Writes through two aliases of the same database."""
    write()
    write("by another alias", alias="twin")
    test.assertFalse(Account.objects.filter(name="by another alias").exists())


@fault(
    "A test waits for its own locks in another alias for at most SMOKETEST_LOCK_TIMEOUT.",
    postgresql=fails("lock timeout", word="errored: locked"),
    mariadb=fails("lock wait timeout", word="errored: locked"),
)
def one_row_through_two_aliases() -> None:
    """Changes a row through two aliases of the same database, one of which may be a replica."""
    Account.objects.filter(id=1).update(name="changed")
    Account.objects.using("twin").filter(id=1).update(name="changed again")


@fault(ROLLED_BACK, passes())
def bulk_operations() -> None:
    """Creates 1,000 rows at once, then updates and deletes them all."""
    Account.objects.bulk_create([Account(name=f"bulk {n}") for n in range(1_000)], batch_size=100)
    Account.objects.bulk_update(Account.objects.all(), ["name"], batch_size=100)
    Entry.objects.update(amount=F("amount") + 1)
    Account.objects.all().delete()


@fault(ROLLED_BACK, passes("failed", word="failed, rolled back"))
def failed_assertion(test: SmokeTest) -> None:
    """Writes, and then fails."""
    write()
    test.fail("not as it should be")


@fault(ROLLED_BACK, passes("passed", "passed"))
class WriteTwice(SmokeTest):
    """Two tests write the same unique value, one after another."""

    def test_1(self) -> None:
        self.assertEqual(Account.objects.count(), 2)
        write()

    test_2 = test_1


@fault(AS_IN_REQUEST, passes())
def nested_atomic(test: SmokeTest) -> None:
    """Nests atomic blocks, and rolls back the inner one with an exception."""
    with transaction.atomic():
        write()
        with suppress(ZeroDivisionError), transaction.atomic():
            write("inner")
            raise ZeroDivisionError
    test.assertEqual(Account.objects.count(), 3)


@fault(AS_IN_REQUEST, passes())
def durable_atomic(test: SmokeTest) -> None:
    """Uses a durable block, which must be the outermost one."""
    with transaction.atomic(durable=True):
        write()
    test.assertEqual(Account.objects.count(), 3)


@fault(AS_IN_REQUEST, passes())
def atomic_without_savepoint() -> None:
    """Leaves a block without a savepoint with an exception, which breaks the transaction."""
    with suppress(ZeroDivisionError), transaction.atomic(savepoint=False):
        write()
        raise ZeroDivisionError


@fault(AS_IN_REQUEST, passes(), settings={"ATOMIC_REQUESTS": True})
def atomic_requests(test: SmokeTest) -> None:
    """Calls a view through the request handler, with ATOMIC_REQUESTS enabled."""
    from django.core.handlers.base import BaseHandler  # noqa: PLC0415

    def view() -> HttpResponse:
        write()
        return HttpResponse(Account.objects.count())

    response: Any = BaseHandler().make_view_atomic(view)()
    test.assertEqual(response.content, b"3")


@fault(AS_IN_REQUEST, passes())
def own_savepoints(test: SmokeTest) -> None:
    """Creates, rolls back to and releases savepoints, with Django's functions and with SQL."""
    # The name of the function before Django 6.0.
    create = getattr(transaction, "savepoint_create", None) or transaction.savepoint  # type: ignore[deprecated]
    first = create()
    write()
    transaction.savepoint_rollback(first)
    transaction.savepoint_commit(first)
    sql("SAVEPOINT mine")
    write()
    sql("ROLLBACK TO SAVEPOINT mine")
    sql("RELEASE SAVEPOINT mine")
    test.assertEqual(Account.objects.count(), 2)


@fault(AS_IN_REQUEST, passes())
def rollback_is_set() -> None:
    """Marks the transaction for rollback, and continues."""
    write()
    transaction.set_rollback(True)


@fault(AS_IN_REQUEST, passes())
def atomic_left_open() -> None:
    """Enters an atomic block and never leaves it."""
    transaction.atomic().__enter__()
    write()


@fault(AS_IN_REQUEST, passes())
def rows_are_locked() -> None:
    """Locks rows with select_for_update."""
    with transaction.atomic():
        list(Account.objects.select_for_update())
        write()


_hooks: list[str] = []


@fault(NO_ON_COMMIT, passes("passed", "passed"))
class OnCommit(SmokeTest):
    """Registers callbacks for the commit: inside and outside of blocks, durable and robust ones."""

    def test_1(self) -> None:
        _hooks.clear()
        transaction.on_commit(lambda: _hooks.append("first"))
        write()
        with transaction.atomic():
            transaction.on_commit(lambda: _hooks.append("in atomic"))
        with transaction.atomic(durable=True):
            transaction.on_commit(lambda: _hooks.append("robust"), robust=True)

    def test_2(self) -> None:
        write()
        with transaction.atomic(durable=True):
            write("again")
        self.assertEqual(_hooks, [])


@fault(NO_SPREAD, passes("passed", "passed"))
class CaughtIntegrityError(SmokeTest):
    """Catches an IntegrityError outside of any block, and ends."""

    def test_1(self) -> None:
        with suppress(IntegrityError):
            Account.objects.create(id=1, name="duplicate")

    def test_2(self) -> None:
        write()


@fault(NO_SPREAD, passes())
def integrity_error_caught_in_atomic(test: SmokeTest) -> None:
    """Catches an IntegrityError around an atomic block, and continues to write."""
    with suppress(IntegrityError), transaction.atomic():
        Account.objects.create(id=1, name="duplicate")
    write()
    test.assertEqual(Account.objects.count(), 3)


@fault(
    NO_SPREAD,
    fails("error occurred in the current transaction", outcomes=("errored", "passed")),
)
class BrokenTransactionIsUsed(SmokeTest):
    """Continues after catching an IntegrityError outside of any block."""

    def test_1(self) -> None:
        with suppress(IntegrityError):
            Account.objects.create(id=1, name="duplicate")
        write()

    def test_2(self) -> None:
        write()


@fault(NOT_COMMITTABLE, fails("foreign key"))
def row_without_parent() -> None:
    """Inserts a row whose parent does not exist, which is only checked on commit."""
    Entry.objects.create(account_id=4711)


# MariaDB checks foreign keys immediately.
@fault(NOT_COMMITTABLE, passes(), mariadb=fails("foreign key"))
def late_parent() -> None:
    """Inserts a row before its parent, which is valid at the end."""
    Entry.objects.create(account_id=4711)
    Account.objects.create(id=4711, name="late parent")


@fault(NOT_COMMITTABLE, postgresql=fails("foreign key"))
def constraints_set_immediate() -> None:
    """Requires immediate constraint checks, which the last row violates."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    Entry.objects.create(account_id=4711)


@fault(NOT_COMMITTABLE, fails("foreign key"), mariadb=passes())
def constraint_checks_disabled() -> None:
    """Disables foreign key checks, and inserts a row without a parent."""
    connection.disable_constraint_checking()
    Entry.objects.create(account_id=4711)


@fault("A system check reports tables that cannot be rolled back.", mariadb=Expected(
    "not detected", ("passed",), is_kept=True))  # fmt: skip
def table_without_transactions() -> None:
    """Writes to a table whose engine (MyISAM) does not support transactions."""
    sql("INSERT INTO ledger_myisam VALUES (1)")


# Sites with other settings

OTHER_SITES = "Isolation does not depend on the database settings of the site."


def write_and_read(test: SmokeTest) -> None:
    """Write and read as a passing test does."""
    with transaction.atomic():
        write()
    test.assertEqual(Account.objects.count(), 3)


def site_with(name: str, text: str, settings: Mapping[str, Any], *vendors: str) -> None:
    """Add a row for a site with these settings."""
    on_each: dict[str, Any] = dict.fromkeys(
        vendors or ("sqlite", "postgresql", "mariadb"), passes()
    )
    fault(OTHER_SITES, name=name, text=text, settings=settings, **on_each)(write_and_read)


site_with(
    "persistent_connections",
    "Writes on a site with persistent connections.",
    {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
)
site_with(
    "site_without_autocommit",
    "Writes on a site that disables autocommit.",
    {"AUTOCOMMIT": False},
)
site_with(
    "connection_pool",
    "Writes on a site with a connection pool.",
    {"OPTIONS": {"pool": True}},
    "postgresql",
)
site_with(
    "server_side_binding",
    "Writes on a site with server-side parameter binding.",
    {"OPTIONS": {"server_side_binding": True}},
    "postgresql",
)
site_with(
    "serializable",
    "Writes on a site with serializable transactions.",
    {"OPTIONS": {"isolation_level": 4}},
    "postgresql",
)
site_with(
    "serializable_on_mariadb",
    "Writes on a site with serializable transactions, set by name.",
    {"OPTIONS": {"isolation_level": "serializable"}},
    "mariadb",
)
site_with(
    "init_command",
    "Writes on a site whose init_command disables autocommit.",
    {"OPTIONS": {"init_command": "SET autocommit = 0"}},
    "mariadb",
)
site_with(
    "immediate_transactions",
    "Writes on a site with IMMEDIATE transactions.",
    {"OPTIONS": {"transaction_mode": "IMMEDIATE"}},
    "sqlite",
)
site_with(
    "init_command_on_sqlite",
    "Writes on a site with an init_command and a long lock timeout.",
    {"OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous = NORMAL"}},
    "sqlite",
)
