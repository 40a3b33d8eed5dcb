"""Test classes for a database, its migrations and its clock."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, time  # bound here: a test may patch the module
from typing import ClassVar

from django.apps import apps
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.utils.timezone import now

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import describe_error, failing
from smoketest.contrib.essentials.targets import is_read_only
from smoketest.contrib.essentials.tenants import each_schema, has_schemas

#: Queries for the Unix time of the server, by vendor. SQLite uses the clock of this host.
CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000",
}

#: Query for whether writes to a table of MariaDB or MySQL can be rolled back.
_SUPPORTS_TRANSACTIONS = """
    SELECT t.engine, e.transactions FROM information_schema.tables t
    JOIN information_schema.engines e ON e.engine = t.engine
    WHERE t.table_schema = DATABASE() AND t.table_name = %s
"""


#: Seconds for which a write to SQLite is retried while another connection holds the write lock.
BUSY = 3.0


class DatabaseTestCase(SmokeTest):
    """Base class of the tests of one database."""

    alias: ClassVar[str]


@tag("db", "readiness")
class DatabaseTest(DatabaseTestCase):
    timeout = 5
    slow_after = 0.5

    def test_answers(self) -> None:
        """The database accepts a connection and answers a query."""
        connection = connections[self.alias]
        advice = (
            f"Is it running and reachable, and is DATABASES[{self.alias!r}] correct? Try:"
            f" manage.py dbshell --database {self.alias}"
        )
        with failing(f"The database {self.alias!r} does not answer", advice):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT 1{connection.features.bare_select_suffix}")
                row = cursor.fetchone()
            self.assertEqual(
                row, (1,), f"The database {self.alias!r} answered {row!r} to SELECT 1."
            )

    def test_takes_a_write(self) -> None:
        """The database accepts a new row and returns it. The row is rolled back."""
        if is_read_only(self.alias):
            self.skipTest(f"The site does not write to the database {self.alias!r}.")
        for row in _rows():
            table = row._meta.db_table
            self._skip_without_transactions(table)
            try:
                is_stored = self._write(row)
            except DatabaseError as error:
                if self._is_missing(table):
                    continue
                raise AssertionError(
                    f"The database {self.alias!r} does not accept a new row in {table}:"
                    f" {describe_error(error)} Is it read-only after a failover, is the disk full,"
                    " or is a privilege missing? If the site never writes to it, add it to"
                    f" {EssentialsConf.read_only_databases.name}."
                ) from error
            self.assertTrue(
                is_stored, f"The database {self.alias!r} did not return a new row of {table}."
            )
            return
        self.skipTest(
            f"The database {self.alias!r} has no table for sessions or migrations to write to."
        )

    def _write(self, row: models.Model) -> bool:
        """Insert the row, and return whether it can be read.

        SQLite allows one writer at a time, so the insert is retried for up to `BUSY` seconds.
        """
        manager = type(row)._base_manager.using(self.alias)
        deadline = monotonic() + BUSY
        while True:
            try:
                with transaction.atomic(using=self.alias):
                    manager.bulk_create([row])  # without signals
                    return manager.filter(pk=row.pk).exists()
            except OperationalError as error:
                if "database is locked" not in str(error) or monotonic() > deadline:
                    raise

    def _skip_without_transactions(self, table: str) -> None:
        """Skip the test if the engine of the table, such as MyISAM, cannot roll back the row."""
        connection = connections[self.alias]
        if connection.vendor != "mysql":
            return
        with (
            failing(f"The database {self.alias!r} does not answer", "See test_answers."),
            connection.cursor() as cursor,
        ):
            cursor.execute(_SUPPORTS_TRANSACTIONS, (table,))
            engine, transactions = cursor.fetchone() or ("", "YES")
        if transactions != "YES":
            self.skipTest(
                f"{table} ({engine}) does not support transactions: a row could not be rolled back."
            )

    def _is_missing(self, table: str) -> bool:
        with suppress(DatabaseError):
            return table not in connections[self.alias].introspection.table_names()
        return False


def _rows() -> Iterator[models.Model]:
    """Yield rows for tables of Django that are not referenced, and whose keys need no sequence.

    Sessions come first, since the site writes to that table. The table of migrations may belong to
    another database user.
    """
    if apps.is_installed("django.contrib.sessions"):
        session = apps.get_app_config("sessions").get_model("Session")
        long_ago = datetime(2000, 1, 1, tzinfo=UTC if settings.USE_TZ else None)
        key = f"smoketest{secrets.token_hex(15)}"
        yield session(session_key=key, session_data="", expire_date=long_ago)
    # Random: transactions that insert the same key would block each other.
    number = -secrets.randbelow(2**31 - 1) - 1
    yield MigrationRecorder.Migration(
        id=number, app="smoketest", name=f"rolled back {secrets.token_hex(8)}", applied=now()
    )


@tag("db", "deploy")
class MigrationsTest(DatabaseTestCase):
    read_only = True
    timeout = 10
    slow_after = 2
    every = 60

    def test_are_all_applied(self) -> None:
        """All migrations of this release are applied to the database."""
        connection = connections[self.alias]
        if not has_schemas(connection):
            self._check(f"database {self.alias!r}", f"manage.py migrate --database {self.alias}")
            return
        checked: set[object] = set()
        for schema in each_schema(connection):
            where = f"schema {schema!r} of {self.alias!r}"
            command = f"manage.py migrate_schemas --schema={schema}"
            with failing(f"The migrations of the {where} cannot be read", f"Run: {command}"):
                applied = frozenset(MigrationRecorder(connection).applied_migrations())
            labels = (config.label for config in apps.get_app_configs())
            state = applied, frozenset(label for label in labels if _migrates(self.alias, label))
            if state not in checked:  # of thousands of schemas, most have the same state
                checked.add(state)
                self._check(where, command)

    def _check(self, where: str, command: str) -> None:
        """Check the migrations of a database, or of the selected schema."""
        connection = connections[self.alias]
        with failing(f"The migrations of the {where} cannot be read", f"Try: {command} --plan"):
            executor = MigrationExecutor(connection)
            if (
                self.alias != DEFAULT_DB_ALIAS
                and not has_schemas(connection)
                and not executor.recorder.has_table()
            ):
                self.skipTest(
                    f"No migration was ever applied to {self.alias!r}."
                    f" If it needs any, run: {command}"
                )
        with failing(f"The migrations of the {where} are inconsistent", f"Try: {command} --plan"):
            executor.loader.check_consistent_history(connection)
            conflicts = executor.loader.detect_conflicts()
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        self.assertFalse(
            conflicts,
            f"Apps have more than one leaf migration: {', '.join(sorted(conflicts))}. Release the"
            " migration that manage.py makemigrations --merge creates.",
        )
        unapplied = [
            f"{migration.app_label}.{migration.name}"
            for migration, _ in plan
            if _migrates(self.alias, migration.app_label)
        ]
        shown = ", ".join(unapplied[:5]) + (", ..." if len(unapplied) > 5 else "")
        self.assertFalse(
            unapplied,
            f"The {where} has unapplied migrations ({len(unapplied)}): {shown}. Run: {command}",
        )


def _migrates(alias: str, app_label: str) -> bool:
    """Return whether the database routers allow a model of the app in the database."""
    app_models = list(apps.get_app_config(app_label).get_models())
    if not app_models:
        return bool(router.allow_migrate(alias, app_label))
    return any(router.allow_migrate_model(alias, model) for model in app_models)


@tag("db", "clock")
class ClockTest(DatabaseTestCase):
    severity = "warning"
    read_only = True
    timeout = 5
    slow_after = 0.5

    def test_agrees_with_the_database(self) -> None:
        """The clocks of this host and of the database agree."""
        connection = connections[self.alias]
        with (
            failing(f"The time of the database {self.alias!r} cannot be read", "See DatabaseTest."),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1")  # connecting is not part of the measurement
            before = time()
            cursor.execute(CLOCKS[connection.vendor])
            after = time()
            database_time = float(cursor.fetchone()[0])
        ahead = max(0.0, database_time - after) - max(0.0, before - database_time)
        self.assertLessEqual(
            abs(ahead),
            conf.clock_tolerance,
            f"The clock of the database {self.alias!r} is {abs(ahead):.1f} s"
            f" {'ahead of' if ahead > 0 else 'behind'} that of this host;"
            f" {EssentialsConf.clock_tolerance.name} is {conf.clock_tolerance:g} s. Check the time"
            " synchronization of both: timedatectl, chronyc tracking.",
        )
