"""Isolation of a thread on SQLite: rollback, refused statements, and limits."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished, request_started
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from smoketest import SmokeTest
from smoketest.isolation import IsolationError, Limits, Scope, ThreadIsolation
from smoketest.isolation.errors import RefusedStatementError, TransactionEndedError
from smoketest.isolation.vendor import Vendor
from smoketest.results import Databases
from smoketest.runner import supervisor
from tests.conftest import RunSmoke, outcomes, result_of
from tests.hanging import HANG, Clock, assert_hanging, released, reset
from tests.ledger.models import Account, Entry

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

either_way = pytest.mark.parametrize("workers", [0, 2], ids=["inline", "threads"])

LIMITS = Limits(statement=5, lock=0.2, idle=5)
READ_ONLY = Limits(statement=5, lock=0.2, idle=5, read_only=True)


@pytest.fixture
def isolation() -> Iterator[ThreadIsolation]:
    """Isolate the thread of the test itself."""
    with ThreadIsolation() as isolation:
        yield isolation


def scope(
    isolation: ThreadIsolation,
    databases: Databases = "__all__",
    limits: Limits = LIMITS,
    name: str = "a test",
) -> AbstractContextManager[Scope]:
    return isolation.scope(name, databases, limits)


def names(alias: str = "default") -> list[str]:
    return sorted(Account.objects.using(alias).values_list("name", flat=True))


def committed(alias: str = "default") -> list[str]:
    """Return the accounts that other connections see."""
    with closing(sqlite3.connect(database_path(alias))) as direct:
        return sorted(name for (name,) in direct.execute("SELECT name FROM ledger_account"))


def database_path(alias: str = "default") -> str:
    return str(connections.settings[alias]["NAME"])


def run_sql(sql: str, alias: str = "default") -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


# Rollback


@either_way
def test_rollback__on_every_alias(run_smoke: RunSmoke, workers: int) -> None:
    """Roll back the changes of a test on every database."""
    report = run_smoke(
        """
        class Test(SmokeTest):
            def test_1(self):
                for alias in connections:
                    self.assertFalse(Account.objects.using(alias).exists())
                    Account.objects.using(alias).create(name=alias)
                    self.assertEqual(Account.objects.using(alias).count(), 1)

            test_2 = test_1
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_1": "passed", "test_2": "passed"}
    assert committed("default") == committed("other") == []


def test_rollback__when_the_test_raises(isolation: ThreadIsolation) -> None:
    """Roll back a scope that ends with an exception."""

    def fail_inside() -> None:
        with scope(isolation):
            Account.objects.create(name="lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    with scope(isolation):
        assert names() == []


def test_on_commit__never_runs(isolation: ThreadIsolation) -> None:
    """Ignore commit hooks, wherever they are registered."""
    seen: list[str] = []
    with scope(isolation):
        transaction.on_commit(lambda: seen.append("before the first statement"))
        Account.objects.create(name="hook")
        transaction.on_commit(lambda: seen.append("outside of atomic"))
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("in atomic"))
        with transaction.atomic(durable=True):
            transaction.on_commit(lambda: seen.append("in durable atomic"), robust=True)
    with scope(isolation):
        assert names() == []
        with transaction.atomic():
            Account.objects.create(name="next")
    assert seen == []


def test_atomic__durable_works(isolation: ThreadIsolation) -> None:
    """Allow a durable block as the outermost one, as Django's TestCase does."""
    with scope(isolation):
        with transaction.atomic(durable=True):
            Account.objects.create(name="durable")
        assert names() == ["durable"]
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            transaction.atomic(durable=True).__enter__()
    assert committed() == []


@pytest.mark.parametrize("savepoint", [True, False])
@pytest.mark.parametrize("first", ["outside", "outer", "inner"])
def test_atomic__nests_regardless_of_the_first_statement(
    isolation: ThreadIsolation, first: str, savepoint: bool
) -> None:
    """Roll back blocks correctly, whether the transaction begins before or inside them."""

    def touch(where: str) -> None:
        if where == first:
            Account.objects.create(name="first")

    def fail_inside() -> None:
        with transaction.atomic(savepoint=savepoint):
            touch("inner")
            Account.objects.create(name="inner")
            raise ZeroDivisionError

    with scope(isolation):
        touch("outside")
        with transaction.atomic():
            touch("outer")
            with pytest.raises(ZeroDivisionError):
                fail_inside()
            if savepoint:
                Account.objects.create(name="outer")
        outside = ["first"] if first == "outside" else []
        in_outer = ["first"] if first == "outer" else []
        expected = sorted([*outside, *in_outer, "outer"]) if savepoint else outside
        assert names() == expected
        Account.objects.create(name="after")
    with scope(isolation):
        assert names() == []
    assert committed() == []


def test_atomic__depth_is_what_code_under_test_expects(isolation: ThreadIsolation) -> None:
    """Report an atomic block before and after the first statement, in each scope."""
    for _ in range(2):
        with scope(isolation):
            assert connection.in_atomic_block
            with transaction.atomic():
                assert len(connection.savepoint_ids) == 1
                run_sql("SELECT 1")
                assert len(connection.savepoint_ids) == 1
            assert connection.savepoint_ids == []
            assert connection.in_atomic_block
            assert not connection.needs_rollback


BEHAVIOURS = {
    "swallowed IntegrityError": """
            try:
                Account.objects.create(name="mine")
            except Exception:
                pass
    """,
    "swallowed in atomic": """
            try:
                with transaction.atomic():
                    Account.objects.create(name="mine")
            except Exception:
                pass
    """,
    "broken transaction": """
            with transaction.atomic(savepoint=False):
                transaction.set_rollback(True)
    """,
    "set_rollback": "\n            transaction.set_rollback(True)",
    "set_rollback in atomic": """
            with transaction.atomic():
                transaction.set_rollback(True)
    """,
    "close": "\n            connection.close()",
    "close and continue": """
            connection.close()
            try:
                Account.objects.create(name="after close")
            except Exception:
                pass
    """,
    "close_all": "\n            connections.close_all()",
    "close_old_connections": """
            from django.db import close_old_connections
            close_old_connections()
            self.assertEqual(Account.objects.count(), 1)
    """,
    "driver closed": "\n            connection.connection.close()",
    "driver rollback": "\n            connection.connection.rollback()",
    "set_autocommit": """
            try:
                connection.set_autocommit(True)
            except Exception:
                pass
    """,
    "commit": """
            try:
                transaction.commit()
            except Exception:
                pass
    """,
    "atomic left open": "\n            transaction.atomic().__enter__()",
    "savepoint left open": "\n            transaction.savepoint()",
    "raise": "\n            1 / 0",
    "exit": "\n            raise SystemExit",
    "in tearDown": "\n            self.tearDown = lambda: 1 / 0",
    "cursor left open": """
            self.cursor = connection.cursor().execute("SELECT * FROM ledger_account")
    """,
    "reconnect": """
            connection.close()
            connection.connect()
            Account.objects.create(name="reconnected")
    """,
    "other thread": """
            import threading
            thread = threading.Thread(target=connections.close_all)
            thread.start()
            thread.join()
    """,
}


@either_way
@pytest.mark.parametrize("how", BEHAVIOURS)
def test_tests__never_see_each_others_rows(run_smoke: RunSmoke, how: str, workers: int) -> None:
    """Show the next test only the rows of the site, after any use of the connection."""
    Account.objects.create(name="the site's")
    report = run_smoke(
        f"""
class Test(SmokeTest):
        databases = {{"default"}}

        def test_1(self):
            with transaction.atomic():
                Account.objects.create(name="mine")
            Account.objects.filter(name="the site's").delete()
            {BEHAVIOURS[how]}

        def test_2(self):
            names = [account.name for account in Account.objects.all()]
            self.assertEqual(names, ["the site's"])
            with transaction.atomic():
                Account.objects.create(name="mine")
            self.assertEqual(Account.objects.count(), 2)
            self.assertFalse(connection.needs_rollback)
""",
        workers=workers,
    )
    assert result_of(report, "test_2").message == ""
    assert outcomes(report)["test_2"] == "passed"
    assert committed() == ["the site's"]
    assert names() == ["the site's"]


def test_scopes__nest(isolation: ThreadIsolation) -> None:
    """Roll back an inner scope without the outer scope, which stays intact."""
    with scope(isolation) as outer:
        Account.objects.create(name="fixture")
        for _ in range(2):
            with scope(isolation) as inner:
                assert names() == ["fixture"]
                Account.objects.create(name="test")
                Account.objects.filter(name="fixture").delete()
                transaction.set_rollback(True)
            assert inner.intact
            assert outer.intact
            assert names() == ["fixture"]
        with scope(isolation):
            Account.objects.using("other").create(name="first use in the inner scope")
        assert names("other") == []
    with scope(isolation):
        assert names() == []


def test_scopes__outer_is_lost_with_the_connection(isolation: ThreadIsolation) -> None:
    """Mark the outer scope as lost if the inner scope loses the connection."""
    with scope(isolation) as outer:
        Account.objects.create(name="fixture")
        with scope(isolation):
            connection.close()
        assert not outer.intact
        assert names() == []


def test_scopes__unused_database_leaves_the_outer_scope_intact(isolation: ThreadIsolation) -> None:
    """Keep the outer scope if the lost connection was used only in the inner scope."""
    with scope(isolation) as outer:
        Account.objects.create(name="fixture")
        with scope(isolation):
            Account.objects.using("other").create(name="test")
            connections["other"].close()
        assert names() == ["fixture"]
        assert names("other") == []
    assert outer.intact


# Constraints


def test_constraints__missing_parent_surfaces(run_smoke: RunSmoke) -> None:
    """Report an insert without parent as errored, because it would fail at the commit."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_insert(self):
                Entry.objects.create(account_id=4711)

            def test_repaired(self):
                Entry.objects.create(account_id=4711)
                Account.objects.create(id=4711, name="late parent")

            def test_undone(self):
                Entry.objects.create(account_id=4711).delete()
    """)
    assert outcomes(report) == {
        "test_insert": "errored",
        "test_repaired": "passed",
        "test_undone": "passed",
    }
    result = result_of(report, "test_insert")
    assert result.exception == "IntegrityError"
    assert "4711" in result.message


def test_constraints__deleted_parent_surfaces(isolation: ThreadIsolation) -> None:
    """Report a parent that raw SQL has deleted or changed."""

    def orphan(sql: str) -> None:
        with scope(isolation):
            Entry.objects.create(account=Account.objects.create(name="parent"))
            run_sql(sql)

    for sql in ("DELETE FROM ledger_account", "UPDATE ledger_account SET id = id + 1"):
        with pytest.raises(IntegrityError):
            orphan(sql)
    with scope(isolation):
        assert names() == []
        assert not Entry.objects.exists()


def test_constraints__existing_violations_are_ignored_without_writes(
    isolation: ThreadIsolation,
) -> None:
    """Ignore a violation of the site's own rows in a test that only reads."""
    run_site_sql("INSERT INTO ledger_entry (account_id, amount) VALUES (4711, 1)")
    with scope(isolation):
        assert Entry.objects.count() == 1
        Account.objects.using("other").create(name="elsewhere")
    run_site_sql("DELETE FROM ledger_entry")


def run_site_sql(sql: str) -> None:
    """Commit a statement without Django and without isolation."""
    with closing(sqlite3.connect(database_path(), timeout=0)) as direct, direct:
        direct.execute("PRAGMA foreign_keys = OFF")
        direct.execute(sql)


def test_constraints__tables_that_a_test_creates_are_checked(isolation: ThreadIsolation) -> None:
    """Check new tables, although each scope ends with the same schema version."""

    def make_and_write(table: str, account: object) -> None:
        with scope(isolation), connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {table} (id integer PRIMARY KEY, account integer"
                " REFERENCES ledger_account (id) DEFERRABLE INITIALLY DEFERRED)"
            )
            cursor.execute(f"INSERT INTO {table} VALUES (1, %s)", [account])  # noqa: S608 - of the test itself

    make_and_write("good", None)
    with pytest.raises(IntegrityError):
        make_and_write("bad", 99)


def test_constraints__violation_does_not_hide_the_failure_of_the_test(run_smoke: RunSmoke) -> None:
    """Report both the violation and, in the traceback, the failed assertion."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_it(self):
                Entry.objects.create(account_id=4711)
                self.fail("not as it should be")
    """)
    result = result_of(report, "test_it")
    assert result.outcome == "errored"
    assert "not as it should be" in result.traceback


# Commits


@contextmanager
def refused_scope(isolation: ThreadIsolation) -> Iterator[None]:
    """Expect that the scope reports a refused statement, even if the exception was caught."""
    with pytest.raises(RefusedStatementError, match="may neither end it"), scope(isolation):
        yield


ENDINGS = ["COMMIT", "commit; ", "END", "ROLLBACK", "BEGIN", " /* x */ COMMIT TRANSACTION"]


@pytest.mark.parametrize("sql", ENDINGS)
def test_commit__by_raw_sql_is_refused(isolation: ThreadIsolation, sql: str) -> None:
    """Refuse statements that begin or end a transaction before they are executed."""
    with refused_scope(isolation):
        Account.objects.create(name="escaped")
        with pytest.raises(RefusedStatementError, match=re.escape(sql.strip())):
            run_sql(sql)
        assert names() == ["escaped"]
    assert committed() == []


def by_method(driver: sqlite3.Connection) -> None:
    driver.commit()


def by_script(driver: sqlite3.Connection) -> None:
    driver.executescript("SELECT 1; COMMIT")


def by_attaching(driver: sqlite3.Connection) -> None:
    driver.execute("ATTACH DATABASE ':memory:' AS elsewhere")


def past_the_guard(driver: sqlite3.Connection) -> None:
    sqlite3.Cursor(driver).execute("COMMIT")


@pytest.mark.parametrize("way", [by_method, by_script, by_attaching, past_the_guard])
def test_commit__by_the_driver_is_refused(
    isolation: ThreadIsolation, way: Callable[[sqlite3.Connection], None]
) -> None:
    """Refuse methods of the driver that end the transaction, also if the exception is caught."""
    with refused_scope(isolation):
        Account.objects.create(name="escaped")
        with suppress(IsolationError, sqlite3.DatabaseError):
            way(connection.connection)
        assert names() == ["escaped"]
    assert committed() == []


def test_script__is_refused_because_it_commits_first(isolation: ThreadIsolation) -> None:
    """Refuse `executescript`, which commits before it executes the script."""
    with refused_scope(isolation):
        Account.objects.create(name="escaped")
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            connection.connection.executescript("SELECT 1")
    assert committed() == []


def escape(isolation: ThreadIsolation, sql: str) -> None:
    """End the transaction of a scope in a way that isolation cannot prevent."""
    with scope(isolation):
        run_sql("SELECT 1 AS before_it")
        connection.connection.set_authorizer(None)
        sqlite3.Cursor(connection.connection).execute(sql)


def test_commit__that_was_not_recognized_is_detected(isolation: ThreadIsolation) -> None:
    """Raise an error with the recent statements if the transaction was ended."""
    with pytest.raises(TransactionEndedError, match=r"'default' was ended by the test") as caught:
        escape(isolation, "COMMIT")
    assert "SELECT 1 AS before_it" in str(caught.value)
    with scope(isolation):
        Account.objects.create(name="next")
    assert committed() == []


def close_by_django() -> None:
    connection.close()


def close_by_driver() -> None:
    connection.connection.close()


def escape_and_close(isolation: ThreadIsolation, close: Callable[[], None]) -> None:
    with scope(isolation):
        run_sql("SELECT 1")
        connection.connection.set_authorizer(None)
        sqlite3.Cursor(connection.connection).execute("COMMIT")
        close()


@pytest.mark.parametrize("close", [close_by_django, close_by_driver])
def test_commit__is_detected_before_the_connection_is_closed(
    isolation: ThreadIsolation, close: Callable[[], None]
) -> None:
    """Detect a commit while the connection is still open."""
    with pytest.raises(TransactionEndedError, match=r"'default' was ended by the test"):
        escape_and_close(isolation, close)
    with scope(isolation):
        run_sql("SELECT 1")
        close()  # allowed, because nothing was committed


def test_commit__is_errored_in_a_run(run_smoke: RunSmoke) -> None:
    """Report the test as errored once, even if it continues; then run the next test."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_1(self):
                connection.cursor().execute("COMMIT")

            def test_2(self):
                try:
                    connection.cursor().execute("COMMIT")
                except Exception:
                    pass

            def test_3(self):
                Account.objects.create(name="next")
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored", "test_3": "passed"}
    for test in ("test_1", "test_2"):
        message = result_of(report, test).message
        assert message.startswith("Refused on database 'default': COMMIT.")
        assert "more)" not in message  # reported once


def test_commit__in_an_inner_scope_is_lost_for_the_outer(isolation: ThreadIsolation) -> None:
    """Do not reuse fixtures after a test has ended their transaction."""
    with scope(isolation) as outer:
        run_sql("SELECT 1")
        with pytest.raises(TransactionEndedError):
            escape(isolation, "ROLLBACK")
        assert not outer.intact


def test_threads__of_asyncio_get_no_connection_of_their_own(run_smoke: RunSmoke) -> None:
    """Run ORM calls of a coroutine in the thread of the test, and refuse other threads."""
    report = run_smoke("""
        import asyncio
        import os
        from asgiref.sync import sync_to_async

        def write():
            Account.objects.create(name="escaped")

        class Test(SmokeTest):
            async def test_1(self):
                await asyncio.to_thread(write)
            async def test_2(self):
                await sync_to_async(write, thread_sensitive=False)()
            async def test_3(self):
                os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
                self.addCleanup(os.environ.pop, "DJANGO_ALLOW_ASYNC_UNSAFE")
                write()
            async def test_4(self):
                await Account.objects.acreate(name="rolled back")
                found = [a.name async for a in Account.objects.exclude(pk__in=[0])]
                self.assertEqual(found, ["rolled back"])
    """)
    assert outcomes(report) == {
        "test_1": "errored",
        "test_2": "errored",
        "test_3": "errored",
        "test_4": "passed",
    }
    assert "may not create its own connection" in result_of(report, "test_1").message
    assert committed() == []


def test_nesting__smoke_tests_in_a_smoke_test_are_refused(run_smoke: RunSmoke) -> None:
    """Refuse a run inside a run, which would wait for itself."""
    report = run_smoke("""
        from django.core.management import call_command

        class Test(SmokeTest):
            def test_1(self):
                call_command("smoketest")
            def test_2(self):
                self.client.get("/smoketest/?max_age=0")
            def test_3(self):
                response = self.client.get("/smoketest/?format=ndjson&max_age=0")
                b"".join(response.streaming_content)
    """)
    for test in ("test_1", "test_2", "test_3"):
        assert "A smoke test may not run the smoke tests" in result_of(report, test).message


@pytest.fixture
def keyless() -> Iterator[None]:
    """Create a table without a primary key that refers to another table."""
    run_site_sql(
        "CREATE TABLE keyless (account integer REFERENCES ledger_account (id)"
        " DEFERRABLE INITIALLY DEFERRED)"
    )
    yield
    run_site_sql("DROP TABLE keyless")


@pytest.mark.usefixtures("keyless")
def test_constraints__of_a_table_without_a_key(isolation: ThreadIsolation) -> None:
    """Report a violation in a table that Django cannot check."""
    with pytest.raises(IntegrityError, match=r"Row 1 of 'keyless'"), scope(isolation):
        run_sql("INSERT INTO keyless VALUES (4711)")
    with scope(isolation):
        assert names() == []


def test_constraints__existing_violations_are_ignored_with_writes(
    isolation: ThreadIsolation,
) -> None:
    """Report only violations that the rollback removes."""
    run_site_sql("INSERT INTO ledger_entry (account_id, amount) VALUES (4711, 1)")
    with scope(isolation):
        Entry.objects.create(account=Account.objects.create(name="correct"))
    with pytest.raises(IntegrityError), scope(isolation):
        Entry.objects.create(account_id=4712)
    run_site_sql("DELETE FROM ledger_entry")


def test_constraints__of_fixtures_are_reported_at_their_end(isolation: ThreadIsolation) -> None:
    """Report a violation of fixtures, whatever the tests in between did."""

    def violate() -> None:
        with scope(isolation):
            Entry.objects.create(account_id=4711)
            with suppress(IntegrityError), scope(isolation):
                names()

    with pytest.raises(IntegrityError):
        violate()


def test_end__of_a_scope_after_an_unexpected_exception(
    isolation: ThreadIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin the next scope normally after an unexpected exception of the backend."""

    def fail(*_: object) -> None:
        raise AttributeError("no backend should")

    with scope(isolation):
        Account.objects.create(name="lost")
        vendor = connection.isolation_vendor  # type: ignore[attr-defined]
    monkeypatch.setattr(vendor, "check_constraints", fail)
    with pytest.raises(AttributeError), scope(isolation):
        Account.objects.create(name="lost")
    monkeypatch.undo()
    with scope(isolation):
        assert names() == []


def test_wrappers__of_fixtures_outlive_a_test(isolation: ThreadIsolation) -> None:
    """Keep the execute wrappers of fixtures for each of their tests."""
    seen = []

    def wrapper(execute: Callable[..., object], sql: str, *rest: object) -> object:
        seen.append(sql)
        return execute(sql, *rest)

    with scope(isolation), connection.execute_wrapper(wrapper):
        for _ in range(2):
            with scope(isolation):
                run_sql("SELECT 1")
    assert seen == ["SELECT 1", "SELECT 1"]
    with pytest.raises(IsolationError):
        connection.cursor()


# Limits


def test_databases__limits_the_aliases(run_smoke: RunSmoke) -> None:
    """Refuse databases that the class does not declare, and name them."""
    report = run_smoke("""
        class One(SmokeTest):
            databases = ["default"]

            def test_allowed(self): Account.objects.exists()
            def test_refused(self): Account.objects.using("other").exists()

        class Without(SmokeTest):
            databases = ()

            def test_none(self): Account.objects.exists()
    """)
    assert outcomes(report) == {
        "test_allowed": "passed",
        "test_refused": "errored",
        "test_none": "errored",
    }
    message = result_of(report, "test_refused").message
    assert "One.test_refused may not use the database 'other'" in message
    assert "it declares databases = {'default'}. Add 'other' to allow it." in message
    assert "databases = {}." in result_of(report, "test_none").message


def test_databases__are_limited_in_each_scope(isolation: ThreadIsolation) -> None:
    """Apply the declared databases to each scope separately."""
    with scope(isolation):
        Account.objects.create(name="fixture")
        with scope(isolation, ("other",)), pytest.raises(IsolationError):
            Account.objects.exists()
        assert names() == ["fixture"]


def test_databases__unknown_alias_is_refused(isolation: ThreadIsolation) -> None:
    """Name an unknown alias and the available ones."""
    message = "a test declares databases that are not in DATABASES: no, none. Available aliases: d"
    with pytest.raises(IsolationError, match=message):
        scope(isolation, ("none", "default", "no")).__enter__()
    with pytest.raises(IsolationError, match="outside of a smoke test"):
        run_sql("SELECT 1")


def test_read_only__refuses_writes(run_smoke: RunSmoke) -> None:
    """Refuse writes in the tests and fixtures of a read-only class, but not in the next class."""
    report = run_smoke(
        """
        class ReadOnly(SmokeTest):
            read_only = True

            def test_1_read(self): Account.objects.exists()
            def test_2_write(self): Account.objects.create(name="x")
            def test_3_raw(self): connection.cursor().execute("DROP TABLE ledger_entry")

        class ReadOnlyFixture(SmokeTest):
            read_only = True

            @classmethod
            def setUpClass(cls): Account.objects.create(name="x")
            def test_4(self): pass

        class Writing(SmokeTest):
            def test_5(self): Account.objects.create(name="x")
    """,
        workers=1,
    )
    assert list(outcomes(report).values()) == [
        "passed",
        "errored",
        "errored",
        "errored",
        "passed",
    ]
    assert "readonly" in result_of(report, "test_2_write").message


def test_read_only__ends_with_the_scope(isolation: ThreadIsolation) -> None:
    """Allow writes in the outer scope after a read-only inner scope."""
    with scope(isolation):
        run_sql("SELECT 1")
        with (
            scope(isolation, limits=READ_ONLY),
            pytest.raises(OperationalError, match="readonly"),
        ):
            Account.objects.create(name="x")
        Account.objects.create(name="y")


def test_lock__wait_is_limited(isolation: ThreadIsolation) -> None:
    """Raise an error soon if another process keeps the database locked."""
    with closing(sqlite3.connect(database_path())) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"), scope(isolation):
            Account.objects.create(name="x")


def test_reading__does_not_take_the_write_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read without the write lock, even if the site's transactions begin as writers."""
    settings = connections.settings["default"]
    monkeypatch.setitem(settings, "OPTIONS", {"transaction_mode": "IMMEDIATE"})
    replaced = connections["default"]
    connections["default"] = connections.create_connection("default")
    try:
        with ThreadIsolation() as isolation, scope(isolation):
            assert names() == []
            assert can_be_written()
    finally:
        connections["default"].close()
        connections["default"] = replaced


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the runner; smoke tests advance it as ``supervisor.monotonic``."""
    clock = Clock()
    monkeypatch.setattr(supervisor, "monotonic", clock)
    return clock


def smoke_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("smoketest-")]


def is_another_waiting() -> bool:
    """Return whether another thread of the run is in a test and waits for a slot."""
    others: list[Any] = [t for t in smoke_threads() if t is not threading.current_thread()]
    return any(getattr(other, "step", None) and other.deadline == math.inf for other in others)


@pytest.mark.usefixtures("clock")
def test_sqlite__tests_write_to_a_file_one_after_the_other(run_smoke: RunSmoke) -> None:
    """Let classes that run at the same time write to the same file one after the other.

    The time that a test waits for the slot does not count towards its timeout.
    """
    report = run_smoke(
        """
        import threading
        from smoketest.runner import supervisor
        from tests.isolation.test_isolation import is_another_waiting
        from tests.servers.processes import wait_for

        has_slot = threading.Event()

        class Test0(SmokeTest):
            timeout = 1000

            def test_0(self):
                Account.objects.exists()
                Account.objects.create(name="0")
                has_slot.set()
                wait_for(is_another_waiting, what="the other to wait for the slot")
                supervisor.monotonic.advance(100)

        class Test1(SmokeTest):
            timeout = 90

            def test_1(self):
                self.assertTrue(has_slot.wait(60))
                Account.objects.exists()
                Account.objects.create(name="1")
        """,
        lock_timeout=0.1,
        run_timeout=2000,
    )
    assert outcomes(report) == {"test_0": "passed", "test_1": "passed"}


@pytest.fixture
def hanging() -> Iterator[None]:
    """Release hanging smoke tests at the end of the test."""
    reset()
    yield
    released.set()
    for thread in smoke_threads():
        thread.join(60)


@pytest.mark.usefixtures("hanging")
def test_abandoned__test_does_not_keep_the_write_lock(run_smoke: RunSmoke) -> None:
    """Roll back a timed-out test immediately, so that other tests and the site can write."""
    report = run_smoke(
        """
        from tests.hanging import hang

        class Test(SmokeTest):
            @options(timeout=3)  # long enough to write before it hangs
            def test_1(self):
                Account.objects.create(name="hung")
                hang()

            def test_2(self):
                Account.objects.create(name="next")
        """,
        lock_timeout=0.1,
    )
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "passed"}
    assert can_be_written()
    assert_hanging()


def test_abandoned__query_is_cancelled(run_smoke: RunSmoke) -> None:
    """Cancel a query that takes too long, so that its thread ends."""
    report = run_smoke(
        """
        FOREVER = (
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
            " LIMIT 1000000000) SELECT count(*) FROM numbers"
        )

        class Test(SmokeTest):
            def test_it(self):
                connection.cursor().execute(FOREVER)
        """,
        timeout=0.2,
    )
    assert outcomes(report) == {"test_it": "timed_out"}
    for thread in smoke_threads():
        thread.join(HANG / 2)  # the query would take about two minutes
    assert smoke_threads() == []


def can_be_written() -> bool:
    """Return whether the write lock is available."""
    with closing(sqlite3.connect(database_path(), timeout=0)) as direct:
        try:
            direct.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        direct.rollback()
        return True


def test_cursor__left_open_does_not_keep_a_lock() -> None:
    """Release the locks of a cursor with unread rows at the end of the run."""
    with ThreadIsolation() as isolation, scope(isolation):
        Account.objects.bulk_create(Account(name=str(n)) for n in range(3))
        cursor = connection.connection.execute("SELECT * FROM ledger_account")
        cursor.fetchone()
    try:
        run_site_sql("DELETE FROM ledger_entry")
    finally:
        del cursor


# Connections on demand


@pytest.fixture
def missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the database ``other`` with a file that does not exist yet."""
    path = tmp_path / "missing.sqlite3"
    monkeypatch.setitem(connections.settings["other"], "NAME", path)
    connections["other"].close()
    return path


@either_way
def test_untouched__alias_is_never_connected_to(
    run_smoke: RunSmoke, missing: Path, workers: int
) -> None:
    """Do not open a database that no test uses."""
    report = run_smoke(
        """
        class Test(SmokeTest):
            def test_it(self):
                Account.objects.create(name="x")
                transaction.on_commit(print, using="other")
                connections["other"].close()
                connections["other"].close_if_unusable_or_obsolete()
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_it": "passed"}
    assert not missing.exists()


@either_way
def test_broken__database_fails_only_the_tests_that_use_it(
    run_smoke: RunSmoke, missing: Path, workers: int
) -> None:
    """Report an unavailable database for each test that uses it, and for no other."""
    missing.mkdir()
    report = run_smoke(
        """
        class Test(SmokeTest):
            def test_1(self): Account.objects.using("other").exists()
            def test_2(self): Account.objects.create(name="x")
            def test_3(self):
                with self.assertRaises(Exception):
                    Account.objects.using("other").exists()
                Account.objects.create(name="x")
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_1": "errored", "test_2": "passed", "test_3": "passed"}
    assert "unable to open database file" in result_of(report, "test_1").message


def test_private_connections__are_opened_once_and_closed(isolation: ThreadIsolation) -> None:
    """Use one connection for the scopes of a thread, unless a test loses it."""
    drivers = []
    for _ in range(2):
        with scope(isolation), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            drivers.append(connection._driver)
    assert drivers[0] is drivers[1]
    isolation.__exit__(None, None, None)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        drivers[0].execute("SELECT 1")
    isolation.__enter__()


# Use outside of scopes


@pytest.mark.parametrize("workers", [0, 2])
def test_guard__refuses_the_database_at_import(run_smoke: RunSmoke, workers: int) -> None:
    """Report a query during the import of a smoke module, with what to do instead."""
    report = run_smoke("Account.objects.exists()", workers=workers)
    (result,) = report.results
    assert (result.id, result.outcome) == ("app0.smoke", "errored")
    assert result.message == (
        "cannot be imported: The database 'default' was used outside of a smoke test. Use it in"
        " tests, setUp and setUpClass, where changes are rolled back, not while a smoke module is"
        " imported."
    )


def test_guard__refuses_every_use_outside_of_a_scope(isolation: ThreadIsolation) -> None:
    """Refuse all databases before, between and after scopes."""
    with pytest.raises(IsolationError, match="'default' was used outside of a smoke test"):
        run_sql("SELECT 1")
    with scope(isolation):
        run_sql("SELECT 1")
    with pytest.raises(IsolationError):
        Account.objects.create(name="x")
    with pytest.raises(IsolationError, match="'other'"):
        connections["other"].ensure_connection()
    with pytest.raises(IsolationError):
        connection.cursor()
    assert committed() == []


@pytest.mark.parametrize("kept", ["cursor", "driver"])
def test_guard__applies_to_cursors_that_outlive_a_scope(
    isolation: ThreadIsolation, kept: str
) -> None:
    """Refuse statements of a cursor or driver connection after its scope."""
    with scope(isolation):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        execute = cursor.execute if kept == "cursor" else connection.connection.execute
    with suppress(IsolationError, DatabaseError, sqlite3.DatabaseError):
        execute("INSERT INTO ledger_account (name) VALUES ('outlived')")
    assert committed() == []


def test_abandoned__thread_is_refused_its_open_cursor(isolation: ThreadIsolation) -> None:
    """Refuse statements of an open cursor after the timeout."""
    with scope(isolation), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        isolation.abandon()
        with pytest.raises(IsolationError, match="This test timed out"):
            cursor.execute("SELECT 1")


def test_abandoned__thread_is_refused(isolation: ThreadIsolation) -> None:
    """Refuse all statements after another thread has abandoned the test, and roll back."""
    with scope(isolation):
        Account.objects.create(name="late")
        thread = threading.Thread(target=isolation.abandon)
        thread.start()
        thread.join()
        with pytest.raises(IsolationError, match="timed out and may no longer use the database"):
            names()
        with pytest.raises(IsolationError, match="This test timed out"):
            Account.objects.using("other").exists()
    assert committed() == []


def test_signals__of_requests_do_not_end_the_transaction(isolation: ThreadIsolation) -> None:
    """Ignore request signals, at which Django closes old connections."""
    with scope(isolation):
        Account.objects.create(name="kept")
        driver = connection.connection
        connection.close_at = 0.0
        connection.errors_occurred = True
        for signal in (request_started, request_finished):
            signal.send(sender=None)
            assert names() == ["kept"]
        assert connection.connection is driver


# Connections of the site


def site_connections() -> dict[str, BaseDatabaseWrapper]:
    return {c.alias: c for c in connections.all(initialized_only=True)}


@either_way
def test_site__connection_of_the_caller_is_untouched(run_smoke: RunSmoke, workers: int) -> None:
    """Leave the caller's connections and open transaction as they were."""
    with transaction.atomic():
        Account.objects.create(name="the site's own")
        before = site_connections()
        driver = connection.connection
        with CaptureQueriesContext(connection) as queries:
            report = run_smoke(
                """
                class Test(SmokeTest):
                    def test_it(self):
                        self.assertFalse(Account.objects.exists())
                        transaction.on_commit(lambda: 1 / 0)
                """,
                workers=workers,
            )
            assert len(queries) == 0
        assert outcomes(report) == {"test_it": "passed"}
        assert site_connections() == before
        assert connection.connection is driver
        assert names() == ["the site's own"]
    assert committed() == ["the site's own"]


def test_site__thread_without_connections_stays_without() -> None:
    """Leave no connection in a thread that had none."""
    left: list[object] = []

    def target() -> None:
        with ThreadIsolation() as isolation, scope(isolation):
            run_sql("SELECT 1")
        left.extend(connections.all(initialized_only=True))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert left == []


def test_site__gets_its_connections_back_when_isolation_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restore all connections if the isolation of an alias fails."""
    broken = {"ENGINE": "tests.no_such_engine", "NAME": "x"}
    configured = connections.configure_settings({"default": {}, "broken": broken})["broken"]
    before = site_connections()
    monkeypatch.setitem(connections.settings, "broken", configured)
    with suppress(ImproperlyConfigured), ThreadIsolation():
        pass  # whether it raises does not matter here
    after = site_connections()
    for alias, site_connection in before.items():
        connections[alias] = site_connection
    assert after == before


# Databases of an unknown vendor


@pytest.fixture
def unknown_vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadIsolation]:
    """Isolate the thread as if the vendor of its databases were unknown."""
    monkeypatch.setattr("smoketest.isolation.connection.VENDORS", {})
    with ThreadIsolation() as isolation:
        yield isolation


def test_vendor__of_any_other_database_has_no_limits(unknown_vendor: ThreadIsolation) -> None:
    """Use only savepoints and constraint checks on a database of an unknown vendor."""
    assert Vendor().private_settings({"NAME": "x", "AUTOCOMMIT": False}) == {
        "NAME": "x",
        "AUTOCOMMIT": True,
        "OPTIONS": {},
    }
    with scope(unknown_vendor):
        run_sql("SELECT 1")
        with scope(unknown_vendor):
            Account.objects.create(name="x")
        assert names() == []


def test_vendor__violations_are_reported_on_any_database(unknown_vendor: ThreadIsolation) -> None:
    """Check deferred constraints before the rollback."""
    with scope(unknown_vendor):
        run_sql("SELECT 1")
        with pytest.raises(IntegrityError), scope(unknown_vendor):
            Entry.objects.create(account_id=4711)
        assert not Entry.objects.exists()


def test_vendor__commits_are_refused_or_detected_on_any_database(
    unknown_vendor: ThreadIsolation,
) -> None:
    """Refuse commits by their text, and detect others at the end of the test."""
    with pytest.raises(RefusedStatementError), scope(unknown_vendor):
        run_sql("COMMIT")
    with pytest.raises(TransactionEndedError), scope(unknown_vendor):
        connection.cursor().connection.commit()


def test_vendor__receivers_are_rolled_back_on_any_database(unknown_vendor: ThreadIsolation) -> None:
    """Roll back what receivers of `connection_created` write, also without a known vendor."""

    def insert(connection: BaseDatabaseWrapper, **_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO ledger_account (name) VALUES ('by a receiver')")

    connection_created.connect(insert)
    try:
        with scope(unknown_vendor):
            assert names() == []
    finally:
        connection_created.disconnect(insert)
    assert committed() == []


@pytest.mark.parametrize("name", ["fixtures", "reset_sequences"])
def test_fixtures__are_refused_where_they_are_declared(name: str) -> None:
    """Raise an error for attributes of Django's test cases that set sequences."""
    with pytest.raises(TypeError, match=rf"Loads\.{name} is not supported.* Create rows in setUp"):
        type("Loads", (SmokeTest,), {name: ["accounts"]})
    type("LoadsNothing", (SmokeTest,), {name: []})
