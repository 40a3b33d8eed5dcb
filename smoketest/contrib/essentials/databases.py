"""Databases: they answer, take a write, have all migrations, and agree about the time."""

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
from smoketest.contrib.essentials.explain import failing, said
from smoketest.contrib.essentials.targets import is_read_only

#: Unix time by the clock of the server; SQLite has that of this host.
CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000",
}

#: Whether what is written to a table of MariaDB or MySQL can be rolled back.
_KNOWS_TRANSACTIONS = """
    SELECT t.engine, e.transactions FROM information_schema.tables t
    JOIN information_schema.engines e ON e.engine = t.engine
    WHERE t.table_schema = DATABASE() AND t.table_name = %s
"""


#: Seconds for which another writer may have SQLite to itself.
BUSY = 3.0


class OfDatabase(SmokeTest):
    """Tests of one database."""

    alias: ClassVar[str]


@tag("db", "readiness")
class DatabaseTest(OfDatabase):
    timeout = 5
    slow_after = 0.5

    def test_answers(self) -> None:
        """The database lets the site in and answers a query."""
        connection = connections[self.alias]
        advice = (
            f"Is it running, can this host reach it, and is DATABASES[{self.alias!r}] right? Try:"
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
        """The database takes a new row, and shows it; then it is rolled back."""
        if is_read_only(self.alias):
            self.skipTest(f"The site does not write to the database {self.alias!r}.")
        for row in _rows():
            table = row._meta.db_table
            self._skip_without_transactions(table)
            try:
                is_there = self._write(row)
            except DatabaseError as error:
                if self._lacks(table):
                    continue
                raise AssertionError(
                    f"The database {self.alias!r} takes no new row into {table}: {said(error)}"
                    " Read-only after a failover, a full disk, or a missing privilege? If the site"
                    f" never writes to it, name it in {EssentialsConf.read_only_databases.name}."
                ) from error
            self.assertTrue(
                is_there, f"The database {self.alias!r} lost a row just written to {table}."
            )
            return
        self.skipTest(f"The database {self.alias!r} has no table of Django to write to.")

    def _write(self, row: models.Model) -> bool:
        """Whether the row is there then.

        SQLite has one writer at a time, for which a site waits longer than a smoke test.
        """
        manager = type(row)._base_manager.using(self.alias)
        deadline = monotonic() + BUSY
        while True:
            try:
                with transaction.atomic(using=self.alias):
                    manager.bulk_create([row])  # sends no signals
                    return manager.filter(pk=row.pk).exists()
            except OperationalError as error:
                if "database is locked" not in str(error) or monotonic() > deadline:
                    raise

    def _skip_without_transactions(self, table: str) -> None:
        """Such as MyISAM: the row would stay."""
        connection = connections[self.alias]
        if connection.vendor != "mysql":
            return
        with (
            failing(f"The database {self.alias!r} does not answer", "See test_answers."),
            connection.cursor() as cursor,
        ):
            cursor.execute(_KNOWS_TRANSACTIONS, (table,))
            engine, transactions = cursor.fetchone() or ("", "YES")
        if transactions != "YES":
            self.skipTest(f"A row would stay: {table} ({engine}) knows no transactions.")

    def _lacks(self, table: str) -> bool:
        with suppress(DatabaseError):
            return table not in connections[self.alias].introspection.table_names()
        return False


def _rows() -> Iterator[models.Model]:
    """Rows for tables of Django that take any, no other row refers to, and no number is drawn for.

    That of the sessions first: a site writes to it all the time, while the migrations may belong
    to another user of the database.
    """
    if apps.is_installed("django.contrib.sessions"):
        session = apps.get_app_config("sessions").get_model("Session")
        long_ago = datetime(2000, 1, 1, tzinfo=UTC if settings.USE_TZ else None)
        key = f"smoketest{secrets.token_hex(15)}"
        yield session(session_key=key, session_data="", expire_date=long_ago)
    # A number of its own: two tests that took the same would wait for each other.
    number = -secrets.randbelow(2**31 - 1) - 1
    yield MigrationRecorder.Migration(
        id=number, app="smoketest", name=f"rolled back {secrets.token_hex(8)}", applied=now()
    )


@tag("db", "deploy")
class MigrationsTest(OfDatabase):
    read_only = True
    timeout = 10
    slow_after = 2
    every = 60

    def test_are_all_applied(self) -> None:
        """Every migration of this release has been applied to the database."""
        connection = connections[self.alias]
        command = f"manage.py migrate --database {self.alias}"
        with failing(f"The migrations of {self.alias!r} cannot be read", f"Try: {command} --plan"):
            executor = MigrationExecutor(connection)
            if self.alias != DEFAULT_DB_ALIAS and not executor.recorder.has_table():
                self.skipTest(f"Nothing was ever migrated on {self.alias!r}. Should it? {command}")
        with failing(f"The migrations of {self.alias!r} are in disorder", f"Try: {command} --plan"):
            executor.loader.check_consistent_history(connection)
            conflicts = executor.loader.detect_conflicts()
            plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        self.assertFalse(
            conflicts,
            f"Apps have more than one latest migration: {', '.join(sorted(conflicts))}. Release"
            " what manage.py makemigrations --merge makes.",
        )
        unapplied = [
            f"{migration.app_label}.{migration.name}"
            for migration, _ in plan
            if _migrates(self.alias, migration.app_label)
        ]
        shown = ", ".join(unapplied[:5]) + (", ..." if len(unapplied) > 5 else "")
        self.assertFalse(
            unapplied,
            f"The database {self.alias!r} lacks migrations ({len(unapplied)}): {shown}."
            f" Run: {command}",
        )


def _migrates(alias: str, app_label: str) -> bool:
    """Whether the routers let any of the app's models be in the database."""
    app_models = list(apps.get_app_config(app_label).get_models())
    if not app_models:
        return bool(router.allow_migrate(alias, app_label))
    return any(router.allow_migrate_model(alias, model) for model in app_models)


@tag("db", "clock")
class ClockTest(OfDatabase):
    severity = "warning"
    read_only = True
    timeout = 5
    slow_after = 0.5

    def test_agrees_with_the_database(self) -> None:
        """The clocks of this host and of the database tell the same time."""
        connection = connections[self.alias]
        with (
            failing(f"The database {self.alias!r} does not tell the time", "See DatabaseTest."),
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
            f" {EssentialsConf.clock_tolerance.name} is {conf.clock_tolerance:g} s. Look at the"
            " time service of both: timedatectl, chronyc tracking.",
        )
