"""Attributes of connections that a test changes for the next one."""

from __future__ import annotations

from typing import Any

from django.db import connection

from smoketest import SmokeTest
from tests.faults.fault import fault, passes, sql, write
from tests.ledger.models import Account

RESTORED = "Each test starts with the connection's attributes as they were."

PASSES = passes("passed", "passed")


def assert_usable(test: SmokeTest) -> None:
    """Assert that the ORM and raw SQL return rows as usual."""
    test.assertEqual(sql("SELECT name FROM ledger_account ORDER BY id")[1], ("another",))
    test.assertEqual(write().name, Account.objects.latest("id").name)


def change_rows(driver: Any) -> None:
    """Make the driver return rows, or their values, of another type."""
    if connection.vendor == "sqlite":
        driver.row_factory = lambda _cursor, row: {"row": row}
        driver.text_factory = bytes
    elif connection.vendor == "postgresql":
        from psycopg.rows import dict_row  # noqa: PLC0415

        driver.row_factory = dict_row
    else:
        from MySQLdb.cursors import DictCursor  # type: ignore[import-untyped] # noqa: PLC0415

        driver.cursorclass = DictCursor


@fault(RESTORED, PASSES)
class DebugCursor(SmokeTest):
    """Logs the queries of its connection with force_debug_cursor."""

    def test_1(self) -> None:
        connection.force_debug_cursor = True
        write()

    def test_2(self) -> None:
        self.assertFalse(connection.force_debug_cursor)
        assert_usable(self)


@fault(RESTORED, PASSES)
class WrapperAttributes(SmokeTest):
    """Adds, replaces and deletes attributes of Django's connection."""

    def test_1(self) -> None:
        write()
        connection.tenant = "acme"  # type: ignore[attr-defined]
        connection.cursor = None  # type: ignore[assignment]
        connection.ops = None  # type: ignore[assignment]
        del connection.introspection

    def test_2(self) -> None:
        self.assertFalse(hasattr(connection, "tenant"))
        self.assertIsNotNone(connection.introspection)
        assert_usable(self)


@fault(RESTORED, PASSES)
class DriverRows(SmokeTest):
    """Changes the type of rows on the driver's connection."""

    def test_1(self) -> None:
        write()
        change_rows(connection.connection)

    def test_2(self) -> None:
        assert_usable(self)


@fault(RESTORED, PASSES)
class DriverRowsByCursor(SmokeTest):
    """Changes the type of rows on the driver's connection, which it takes from a cursor."""

    def test_1(self) -> None:
        write()
        with connection.cursor() as cursor:
            change_rows(cursor.connection)

    def test_2(self) -> None:
        assert_usable(self)


@fault(RESTORED, PASSES)
class AttributesInFixtures(SmokeTest):
    """Changes attributes in a test, between fixtures of the class that change others."""

    @classmethod
    def setUpClass(cls) -> None:
        connection.tenant = "of the class"  # type: ignore[attr-defined]
        write("of the class")

    def test_1(self) -> None:
        self.assertEqual(connection.tenant, "of the class")  # type: ignore[attr-defined]
        connection.tenant = "acme"  # type: ignore[attr-defined]
        change_rows(connection.connection)

    def test_2(self) -> None:
        self.assertEqual(connection.tenant, "of the class")  # type: ignore[attr-defined]
        assert_usable(self)


@fault(RESTORED, PASSES)
class ConstraintsWithOtherRows(SmokeTest):
    """Changes the type of rows, and writes rows whose constraints are checked at the end."""

    def test_1(self) -> None:
        account = write()
        account.entry_set.create(amount=1)
        change_rows(connection.connection)

    def test_2(self) -> None:
        assert_usable(self)


@fault(RESTORED, postgresql=PASSES)
class SearchPath(SmokeTest):
    """Selects another schema, as backends for tenants do."""

    def test_1(self) -> None:
        sql("CREATE SCHEMA acme")
        sql("SET search_path = acme")

    def test_2(self) -> None:
        assert_usable(self)


@fault(RESTORED, postgresql=PASSES, mariadb=PASSES)
class NamesOfSession(SmokeTest):
    """Prepares a statement, or selects into a variable, whose name the next test uses too."""

    def test_1(self) -> None:
        if connection.vendor == "postgresql":
            sql("PREPARE two AS SELECT 2")
        else:
            self.assertEqual(sql("SELECT @two"), [(None,)])
            sql("SELECT 2 INTO @two")

    test_2 = test_1


@fault(RESTORED, PASSES)
class QueryLog(SmokeTest):
    """Fills the log of queries."""

    def test_1(self) -> None:
        connection.force_debug_cursor = True
        write()
        self.assertTrue(connection.queries)

    def test_2(self) -> None:
        self.assertEqual(connection.queries, [])
        write()


@fault(RESTORED, PASSES)
class AttributesOfOpening(SmokeTest):
    """Closes its connection inside fixtures of the class, and opens it again in the teardown."""

    @classmethod
    def setUpClass(cls) -> None:
        write()

    @classmethod
    def tearDownClass(cls) -> None:
        Account.objects.count()

    def test_1(self) -> None:
        connection.close()

    def test_2(self) -> None:
        write("of a test")
        self.assertEqual(Account.objects.count(), 4)
