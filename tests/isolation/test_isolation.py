"""Whatever a smoke test does to a database, nothing of it stays; on SQLite."""

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
from django.test.utils import CaptureQueriesContext

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
    """Isolates the thread of the test itself."""
    with ThreadIsolation() as isolation:
        yield isolation


def frame(
    isolation: ThreadIsolation,
    databases: Databases = "__all__",
    limits: Limits = LIMITS,
    name: str = "a test",
) -> AbstractContextManager[Scope]:
    return isolation.scope(name, databases, limits)


def names(alias: str = "default") -> list[str]:
    return sorted(Account.objects.using(alias).values_list("name", flat=True))


def committed(alias: str = "default") -> list[str]:
    """The accounts that others see, read past Django and past the isolation."""
    with closing(sqlite3.connect(database_path(alias))) as direct:
        return sorted(name for (name,) in direct.execute("SELECT name FROM ledger_account"))


def database_path(alias: str = "default") -> str:
    return str(connections.settings[alias]["NAME"])


def run_sql(sql: str, alias: str = "default") -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


# Rolled back, always


@either_way
def test_rollback__on_every_alias(run_smoke: RunSmoke, workers: int) -> None:
    """What a test writes is there for the test, on every database, and gone after it."""
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
    """The end of a frame by an exception is an end like any other."""

    def fail_inside() -> None:
        with frame(isolation):
            Account.objects.create(name="lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    with frame(isolation):
        assert names() == []


def test_on_commit__never_runs(isolation: ThreadIsolation) -> None:
    """Hooks for a commit wait for one that never comes, wherever they are registered."""
    seen: list[str] = []
    with frame(isolation):
        transaction.on_commit(lambda: seen.append("before the first statement"))
        Account.objects.create(name="hook")
        transaction.on_commit(lambda: seen.append("outside of atomic"))
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("in atomic"))
        with transaction.atomic(durable=True):
            transaction.on_commit(lambda: seen.append("in durable atomic"), robust=True)
    with frame(isolation):
        assert names() == []
        with transaction.atomic():
            Account.objects.create(name="next")
    assert seen == []


def test_atomic__durable_works(isolation: ThreadIsolation) -> None:
    """A durable block counts as outermost, as in Django's TestCase; inside a block it is not."""
    with frame(isolation):
        with transaction.atomic(durable=True):
            Account.objects.create(name="durable")
        assert names() == ["durable"]
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            transaction.atomic(durable=True).__enter__()
    assert committed() == []


@pytest.mark.parametrize("savepoint", [True, False])
@pytest.mark.parametrize("first", ["outside", "outer", "inner"])
def test_atomic__nests_whenever_the_first_statement_comes(
    isolation: ThreadIsolation, first: str, savepoint: bool
) -> None:
    """Blocks undo what they should, whether the transaction begins before or inside them."""

    def touch(where: str) -> None:
        if where == first:
            Account.objects.create(name="first")

    def fail_inside() -> None:
        with transaction.atomic(savepoint=savepoint):
            touch("inner")
            Account.objects.create(name="inner")
            raise ZeroDivisionError

    with frame(isolation):
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
    with frame(isolation):
        assert names() == []
    assert committed() == []


def test_atomic__depth_is_what_code_under_test_expects(isolation: ThreadIsolation) -> None:
    """Code sees that it is in a block, before and after its first statement, and in each frame."""
    for _ in range(2):
        with frame(isolation):
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
    "close and go on": """
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
    """Whatever a test did to its connection, the next one finds the site's rows and no others."""
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


def test_frames__nest(isolation: ThreadIsolation) -> None:
    """What an inner frame did is undone alone, however it ended; the outer frame stays intact."""
    with frame(isolation) as outer:
        Account.objects.create(name="fixture")
        for _ in range(2):
            with frame(isolation) as inner:
                assert names() == ["fixture"]
                Account.objects.create(name="test")
                Account.objects.filter(name="fixture").delete()
                transaction.set_rollback(True)
            assert inner.intact
            assert outer.intact
            assert names() == ["fixture"]
        with frame(isolation):
            Account.objects.using("other").create(name="first touch in the inner frame")
        assert names("other") == []
    with frame(isolation):
        assert names() == []


def test_frames__outer_is_lost_with_the_connection(isolation: ThreadIsolation) -> None:
    """An inner frame that loses the connection loses the rows of the outer one, which says so."""
    with frame(isolation) as outer:
        Account.objects.create(name="fixture")
        with frame(isolation):
            connection.close()
        assert not outer.intact
        assert names() == []


def test_frames__an_untouched_outer_frame_stays_intact(isolation: ThreadIsolation) -> None:
    """A connection that only the inner frame used takes nothing with it."""
    with frame(isolation) as outer:
        Account.objects.create(name="fixture")
        with frame(isolation):
            Account.objects.using("other").create(name="test")
            connections["other"].close()
        assert names() == ["fixture"]
        assert names("other") == []
    assert outer.intact


# What could never be committed


def test_constraints__missing_parent_surfaces(run_smoke: RunSmoke) -> None:
    """An insert whose parent does not exist would fail at commit: the test is errored."""
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
    """So does the delete or the change of a parent, by raw SQL past Django's cascade."""

    def orphan(sql: str) -> None:
        with frame(isolation):
            Entry.objects.create(account=Account.objects.create(name="parent"))
            run_sql(sql)

    for sql in ("DELETE FROM ledger_account", "UPDATE ledger_account SET id = id + 1"):
        with pytest.raises(IntegrityError):
            orphan(sql)
    with frame(isolation):
        assert names() == []
        assert not Entry.objects.exists()


def test_constraints__of_rows_from_before_are_left_alone_without_writes(
    isolation: ThreadIsolation,
) -> None:
    """A dangling row that the site already has is no fault of a test that only reads."""
    run_site_sql("INSERT INTO ledger_entry (account_id, amount) VALUES (4711, 1)")
    with frame(isolation):
        assert Entry.objects.count() == 1
        Account.objects.using("other").create(name="elsewhere")
    run_site_sql("DELETE FROM ledger_entry")


def run_site_sql(sql: str) -> None:
    """Writes at once, past Django and past the isolation."""
    with closing(sqlite3.connect(database_path(), timeout=0)) as direct, direct:
        direct.execute("PRAGMA foreign_keys = OFF")
        direct.execute(sql)


def test_constraints__tables_that_a_test_makes_are_looked_at(isolation: ThreadIsolation) -> None:
    """Each makes another schema, which has the same version as that of the test before."""

    def make_and_write(table: str, account: object) -> None:
        with frame(isolation), connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {table} (id integer PRIMARY KEY, account integer"
                " REFERENCES ledger_account (id) DEFERRABLE INITIALLY DEFERRED)"
            )
            cursor.execute(f"INSERT INTO {table} VALUES (1, %s)", [account])  # noqa: S608 - of the test itself

    make_and_write("good", None)
    with pytest.raises(IntegrityError):
        make_and_write("bad", 99)


def test_constraints__violation_does_not_hide_the_tests_own_problem(run_smoke: RunSmoke) -> None:
    """Both are told; the assertion that failed is in the traceback."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_it(self):
                Entry.objects.create(account_id=4711)
                self.fail("not as it should be")
    """)
    result = result_of(report, "test_it")
    assert result.outcome == "errored"
    assert "not as it should be" in result.traceback


# No escape


@contextmanager
def refused_frame(isolation: ThreadIsolation) -> Iterator[None]:
    """A frame whose test is told that something was refused, whatever it caught."""
    with pytest.raises(RefusedStatementError, match="may neither end it"), frame(isolation):
        yield


ENDINGS = ["COMMIT", "commit; ", "END", "ROLLBACK", "BEGIN", " /* x */ COMMIT TRANSACTION"]


@pytest.mark.parametrize("sql", ENDINGS)
def test_commit__by_raw_sql_is_refused(isolation: ThreadIsolation, sql: str) -> None:
    """Statements that begin or end a transaction are refused before they do."""
    with refused_frame(isolation):
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
    """No method of the driver ends the transaction; who swallows the exception is told again."""
    with refused_frame(isolation):
        Account.objects.create(name="escaped")
        with suppress(IsolationError, sqlite3.DatabaseError):
            way(connection.connection)
        assert names() == ["escaped"]
    assert committed() == []


def test_script__without_an_ending_still_commits_first(isolation: ThreadIsolation) -> None:
    """`executescript` commits what is pending before it begins: the authorizer refuses that."""
    with refused_frame(isolation):
        Account.objects.create(name="escaped")
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            connection.connection.executescript("SELECT 1")
    assert committed() == []


def escape(isolation: ThreadIsolation, sql: str) -> None:
    """Ends the transaction of a frame, as a test could that means to."""
    with frame(isolation):
        run_sql("SELECT 1 AS before_it")
        connection.connection.set_authorizer(None)
        sqlite3.Cursor(connection.connection).execute(sql)


def test_commit__past_everything_is_found(isolation: ThreadIsolation) -> None:
    """A transaction that was ended all the same is an error, with what was seen before."""
    with pytest.raises(TransactionEndedError, match=r"'default' was ended by the test") as caught:
        escape(isolation, "COMMIT")
    assert "SELECT 1 AS before_it" in str(caught.value)
    with frame(isolation):
        Account.objects.create(name="next")
    assert committed() == []


def close_by_django() -> None:
    connection.close()


def close_by_driver() -> None:
    connection.connection.close()


def escape_and_close(isolation: ThreadIsolation, close: Callable[[], None]) -> None:
    with frame(isolation):
        run_sql("SELECT 1")
        connection.connection.set_authorizer(None)
        sqlite3.Cursor(connection.connection).execute("COMMIT")
        close()


@pytest.mark.parametrize("close", [close_by_django, close_by_driver])
def test_commit__is_found_before_the_connection_is_closed(
    isolation: ThreadIsolation, close: Callable[[], None]
) -> None:
    """A closed connection tells nothing any more, so it is asked before."""
    with pytest.raises(TransactionEndedError, match=r"'default' was ended by the test"):
        escape_and_close(isolation, close)
    with frame(isolation):
        run_sql("SELECT 1")
        close()  # without an escape it is no fault


def test_commit__is_errored_in_a_run(run_smoke: RunSmoke) -> None:
    """In a run the test that tries is errored, even if it goes on; the next one runs."""
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
        assert "more)" not in message  # it is told once


def test_commit__in_an_inner_frame_is_lost_for_the_outer(isolation: ThreadIsolation) -> None:
    """An escape in a test means that the fixtures around it cannot be trusted."""
    with frame(isolation) as outer:
        run_sql("SELECT 1")
        with pytest.raises(TransactionEndedError):
            escape(isolation, "ROLLBACK")
        assert not outer.intact


def test_threads__of_asyncio_get_no_connection_of_their_own(run_smoke: RunSmoke) -> None:
    """A coroutine and its threads belong to the test, whichever thread they run on."""
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
    """Such a test would wait for the run that it is part of."""
    report = run_smoke("""
        from django.core.management import call_command
        from django.test import Client

        class Test(SmokeTest):
            def test_1(self):
                call_command("smoketest")
            def test_2(self):
                Client().get("/smoketest/?max_age=0")
            def test_3(self):
                b"".join(Client().get("/smoketest/?format=ndjson&max_age=0").streaming_content)
    """)
    for test in ("test_1", "test_2", "test_3"):
        assert "A smoke test may not run the smoke tests" in result_of(report, test).message


@pytest.fixture
def keyless() -> Iterator[None]:
    """A table without a primary key, which refers to another."""
    run_site_sql(
        "CREATE TABLE keyless (account integer REFERENCES ledger_account (id)"
        " DEFERRABLE INITIALLY DEFERRED)"
    )
    yield
    run_site_sql("DROP TABLE keyless")


@pytest.mark.usefixtures("keyless")
def test_constraints__of_a_table_without_a_key(isolation: ThreadIsolation) -> None:
    """Django cannot name such a row; it is a violation all the same."""
    with pytest.raises(IntegrityError, match=r"Row 1 of 'keyless'"), frame(isolation):
        run_sql("INSERT INTO keyless VALUES (4711)")
    with frame(isolation):
        assert names() == []


def test_constraints__of_rows_from_before_are_no_fault_of_a_test_that_writes(
    isolation: ThreadIsolation,
) -> None:
    """Only what the rollback undoes is the test's own."""
    run_site_sql("INSERT INTO ledger_entry (account_id, amount) VALUES (4711, 1)")
    with frame(isolation):
        Entry.objects.create(account=Account.objects.create(name="correct"))
    with pytest.raises(IntegrityError), frame(isolation):
        Entry.objects.create(account_id=4712)
    run_site_sql("DELETE FROM ledger_entry")


def test_constraints__of_fixtures_surface_in_the_end(isolation: ThreadIsolation) -> None:
    """What a test inside of them does to the database does not hide it."""

    def violate() -> None:
        with frame(isolation):
            Entry.objects.create(account_id=4711)
            with suppress(IntegrityError), frame(isolation):
                names()

    with pytest.raises(IntegrityError):
        violate()


def test_end__of_a_frame_whatever_goes_wrong(
    isolation: ThreadIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that raises what no backend should leaves the next frame alone."""

    def fail(*_: object) -> None:
        raise AttributeError("no backend should")

    with frame(isolation):
        Account.objects.create(name="lost")
        vendor = connection.isolation_vendor  # type: ignore[attr-defined]
    monkeypatch.setattr(vendor, "check_constraints", fail)
    with pytest.raises(AttributeError), frame(isolation):
        Account.objects.create(name="lost")
    monkeypatch.undo()
    with frame(isolation):
        assert names() == []


def test_wrappers__of_fixtures_outlive_a_test(isolation: ThreadIsolation) -> None:
    """What a fixture wraps around statements is there for each of its tests, and for its end."""
    seen = []

    def wrapper(execute: Callable[..., object], sql: str, *rest: object) -> object:
        seen.append(sql)
        return execute(sql, *rest)

    with frame(isolation), connection.execute_wrapper(wrapper):
        for _ in range(2):
            with frame(isolation):
                run_sql("SELECT 1")
    assert seen == ["SELECT 1", "SELECT 1"]
    with pytest.raises(IsolationError):
        connection.cursor()


# Limits


def test_databases__limits_the_aliases(run_smoke: RunSmoke) -> None:
    """A test may use the databases that its class declares; any other is refused by name."""
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


def test_databases__are_limited_in_each_frame(isolation: ThreadIsolation) -> None:
    """A module's fixture may touch what a class inside it may not."""
    with frame(isolation):
        Account.objects.create(name="fixture")
        with frame(isolation, ("other",)), pytest.raises(IsolationError):
            Account.objects.exists()
        assert names() == ["fixture"]


def test_databases__unknown_alias_is_refused(isolation: ThreadIsolation) -> None:
    """A declared alias that the site does not have is named, with those that it has."""
    message = "a test declares databases that are not in DATABASES: no, none. Available aliases: d"
    with pytest.raises(IsolationError, match=message):
        frame(isolation, ("none", "default", "no")).__enter__()
    with pytest.raises(IsolationError, match="outside of a smoke test"):
        run_sql("SELECT 1")


def test_read_only__refuses_writes(run_smoke: RunSmoke) -> None:
    """A class that is read-only cannot write, in its fixtures either; the next one can."""
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


def test_read_only__ends_with_the_frame(isolation: ThreadIsolation) -> None:
    """A frame around a read-only one may write again afterwards."""
    with frame(isolation):
        run_sql("SELECT 1")
        with (
            frame(isolation, limits=READ_ONLY),
            pytest.raises(OperationalError, match="readonly"),
        ):
            Account.objects.create(name="x")
        Account.objects.create(name="y")


def test_lock__is_not_waited_for_longer_than_the_limit(isolation: ThreadIsolation) -> None:
    """Another process that writes makes a test fail soon, not hang."""
    with closing(sqlite3.connect(database_path())) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"), frame(isolation):
            Account.objects.create(name="x")


def test_reading__does_not_take_the_write_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A site that begins its transactions as writers is not blocked by tests that read."""
    settings = connections.settings["default"]
    monkeypatch.setitem(settings, "OPTIONS", {"transaction_mode": "IMMEDIATE"})
    replaced = connections["default"]
    connections["default"] = connections.create_connection("default")
    try:
        with ThreadIsolation() as isolation, frame(isolation):
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
    """Return whether another thread of the run is in a test and waits for its turn."""
    others: list[Any] = [t for t in smoke_threads() if t is not threading.current_thread()]
    return any(getattr(other, "step", None) and other.deadline == math.inf for other in others)


@pytest.mark.usefixtures("clock")
def test_sqlite__tests_that_use_one_file_take_turns(run_smoke: RunSmoke) -> None:
    """Classes that run at the same time and write the same file do not lock each other out.

    The time that a test waits for its turn does not count towards its timeout.
    """
    report = run_smoke(
        """
        import threading
        from smoketest.runner import supervisor
        from tests.isolation.test_isolation import is_another_waiting
        from tests.servers.processes import wait_for

        has_turn = threading.Event()

        class Test0(SmokeTest):
            timeout = 1000

            def test_0(self):
                Account.objects.exists()
                Account.objects.create(name="0")
                has_turn.set()
                wait_for(is_another_waiting, what="the other to wait for its turn")
                supervisor.monotonic.advance(100)

        class Test1(SmokeTest):
            timeout = 90

            def test_1(self):
                self.assertTrue(has_turn.wait(60))
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
    """What a timed-out test wrote is rolled back at once, so that others, and the site, write."""
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
    """A query that takes too long is cancelled, so that its thread ends."""
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
    """Whether nobody holds the lock that a writer needs at once."""
    with closing(sqlite3.connect(database_path(), timeout=0)) as direct:
        try:
            direct.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        direct.rollback()
        return True


def test_cursor__left_open_does_not_keep_a_lock() -> None:
    """A half-read result that somebody keeps does not lock the file once the run is over."""
    with ThreadIsolation() as isolation, frame(isolation):
        Account.objects.bulk_create(Account(name=str(n)) for n in range(3))
        cursor = connection.connection.execute("SELECT * FROM ledger_account")
        cursor.fetchone()
    try:
        run_site_sql("DELETE FROM ledger_entry")
    finally:
        del cursor


# Lazily


@pytest.fixture
def missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the database ``other``: there is none until somebody connects to it."""
    path = tmp_path / "missing.sqlite3"
    monkeypatch.setitem(connections.settings["other"], "NAME", path)
    connections["other"].close()
    return path


@either_way
def test_untouched__alias_is_never_connected_to(
    run_smoke: RunSmoke, missing: Path, workers: int
) -> None:
    """A database that no test touches is not even opened."""
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
    """A database that cannot be opened errs the tests that touch it, each time anew."""
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
    """One connection serves the frames of a thread, unless a test loses it."""
    drivers = []
    for _ in range(2):
        with frame(isolation):
            run_sql("SELECT 1")
            drivers.append(connection.connection)
    assert drivers[0] is drivers[1]
    isolation.__exit__(None, None, None)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        drivers[0].execute("SELECT 1")
    isolation.__enter__()


# Outside of tests


@pytest.mark.parametrize("workers", [0, 2])
def test_guard__refuses_the_database_at_import(run_smoke: RunSmoke, workers: int) -> None:
    """A smoke module that queries where it is imported is an error that says where to do it."""
    report = run_smoke("Account.objects.exists()", workers=workers)
    (result,) = report.results
    assert (result.id, result.outcome) == ("app0.smoke", "errored")
    assert result.message == (
        "cannot be imported: The database 'default' was used outside of a smoke test. Use it in"
        " tests, setUp and setUpClass, where changes are rolled back, not while a smoke module is"
        " imported."
    )


def test_guard__refuses_every_use_outside_of_a_frame(isolation: ThreadIsolation) -> None:
    """Before, between and after frames, a guarded thread may not use any database."""
    with pytest.raises(IsolationError, match="'default' was used outside of a smoke test"):
        run_sql("SELECT 1")
    with frame(isolation):
        run_sql("SELECT 1")
    with pytest.raises(IsolationError):
        Account.objects.create(name="x")
    with pytest.raises(IsolationError, match="'other'"):
        connections["other"].ensure_connection()
    with pytest.raises(IsolationError):
        connection.cursor()
    assert committed() == []


@pytest.mark.parametrize("kept", ["cursor", "driver"])
def test_guard__holds_for_what_outlives_a_frame(isolation: ThreadIsolation, kept: str) -> None:
    """Neither a cursor nor the driver's connection lets statements through after its frame."""
    with frame(isolation):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        execute = cursor.execute if kept == "cursor" else connection.connection.execute
    with suppress(IsolationError, DatabaseError, sqlite3.DatabaseError):
        execute("INSERT INTO ledger_account (name) VALUES ('outlived')")
    assert committed() == []


def test_abandoned__thread_is_refused_its_open_cursor(isolation: ThreadIsolation) -> None:
    """A cursor from before the time-out executes no more statements."""
    with frame(isolation), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        isolation.abandon()
        with pytest.raises(IsolationError, match="This test timed out"):
            cursor.execute("SELECT 1")


def test_abandoned__thread_is_refused(isolation: ThreadIsolation) -> None:
    """After another thread gave up on it, a test is refused every statement, and rolled back."""
    with frame(isolation):
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
    """Django closes old connections when a request begins and ends; not those of a test."""
    with frame(isolation):
        Account.objects.create(name="kept")
        driver = connection.connection
        connection.close_at = 0.0
        connection.errors_occurred = True
        for signal in (request_started, request_finished):
            signal.send(sender=None)
            assert names() == ["kept"]
        assert connection.connection is driver


def test_client__of_django_may_be_used_in_a_test(run_smoke: RunSmoke) -> None:
    """Requests through Django's test client see the rows of the test, and keep them."""
    report = run_smoke("""
        from django.test import Client

        class Test(SmokeTest):
            def test_it(self):
                Account.objects.create(name="kept")
                self.assertEqual(Client().get("/nowhere/").status_code, 404)
                self.assertEqual(Account.objects.count(), 1)
    """)
    assert outcomes(report) == {"test_it": "passed"}


# The site


def site_connections() -> dict[str, BaseDatabaseWrapper]:
    return {c.alias: c for c in connections.all(initialized_only=True)}


@either_way
def test_site__connection_of_the_caller_is_untouched(run_smoke: RunSmoke, workers: int) -> None:
    """The caller's connections, open transaction included, are as they were."""
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


def test_site__connection_that_was_not_made_is_not_left() -> None:
    """Isolation leaves no connection in a thread that had none."""
    left: list[object] = []

    def target() -> None:
        with ThreadIsolation() as isolation, frame(isolation):
            run_sql("SELECT 1")
        left.extend(connections.all(initialized_only=True))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert left == []


def test_site__gets_its_connections_back_when_isolation_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An alias that cannot be isolated leaves none of the others behind."""
    broken = {"ENGINE": "tests.no_such_engine", "NAME": "x"}
    configured = connections.configure_settings({"default": {}, "broken": broken})["broken"]
    before = site_connections()
    monkeypatch.setitem(connections.settings, "broken", configured)
    with suppress(ImproperlyConfigured), ThreadIsolation():
        pass  # whether it raises is not what this is about
    after = site_connections()
    for alias, site_connection in before.items():
        connections[alias] = site_connection
    assert after == before


# Databases of no known vendor


@pytest.fixture
def unknown_vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadIsolation]:
    """The isolation of a thread whose databases are of a kind that we know nothing of."""
    monkeypatch.setattr("smoketest.isolation.connection.VENDORS", {})
    with ThreadIsolation() as isolation:
        yield isolation


def test_vendor__of_any_other_database_has_no_limits(unknown_vendor: ThreadIsolation) -> None:
    """A database that we know nothing of is asked for savepoints and constraints alone."""
    assert Vendor().private_settings({"NAME": "x", "AUTOCOMMIT": False}) == {
        "NAME": "x",
        "AUTOCOMMIT": True,
        "OPTIONS": {},
    }
    with frame(unknown_vendor):
        run_sql("SELECT 1")
        with frame(unknown_vendor):
            Account.objects.create(name="x")
        assert names() == []


def test_vendor__violations_are_found_on_any_database(unknown_vendor: ThreadIsolation) -> None:
    """Where a database defers constraints, they are checked before the rollback."""
    with frame(unknown_vendor):
        run_sql("SELECT 1")
        with pytest.raises(IntegrityError), frame(unknown_vendor):
            Entry.objects.create(account_id=4711)
        assert not Entry.objects.exists()


def test_vendor__commits_are_refused_and_found_on_any_database(
    unknown_vendor: ThreadIsolation,
) -> None:
    """What the text tells is refused; what it does not is found out after the test."""
    with pytest.raises(RefusedStatementError), frame(unknown_vendor):
        run_sql("COMMIT")
    with pytest.raises(TransactionEndedError), frame(unknown_vendor):
        connection.cursor().connection.commit()
