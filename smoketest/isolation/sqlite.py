"""SQLite: an authorizer, a busy time-out, and foreign keys checked where something was written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.vendor import Limits, Vendor, execute

_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})


class SQLite(Vendor):
    def __init__(self) -> None:
        self._written: set[str] = set()

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        private = super().private_settings(settings)
        # A smoke test that only reads must not take the write lock that "IMMEDIATE" takes.
        private["OPTIONS"].pop("transaction_mode", None)
        # A statement from the cache would bypass the authorizer.
        private["OPTIONS"]["cached_statements"] = 0
        return private

    def opened(self, connection: BaseDatabaseWrapper) -> None:
        def authorize(action: int, name: str | None, *_: str | None) -> int:
            if action in _WRITES:
                self._written.add(name or "")
            elif action == sqlite3.SQLITE_TRANSACTION and not self.is_trusted:
                return sqlite3.SQLITE_DENY
            return sqlite3.SQLITE_OK

        connection.connection.set_authorizer(authorize)

    def begin(self, connection: BaseDatabaseWrapper, marker: str, limits: Limits) -> None:
        execute(connection, f"PRAGMA busy_timeout = {round(limits.lock * 1000)}")
        execute(connection, f"PRAGMA query_only = {int(limits.read_only)}")
        super().begin(connection, marker, limits)
        self._written.clear()

    def check_constraints(self, connection: BaseDatabaseWrapper) -> None:
        """SQLite can only look at whole tables, so it looks at those that may have changed."""
        if not self._written:
            return
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            references = cursor.execute(
                'SELECT m.name, k."table" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
                " WHERE m.type = 'table'"
            ).fetchall()
        tables = {
            referring
            for referring, referred in references
            if referring in self._written or referred in self._written
        }
        connection.check_constraints(table_names=sorted(tables))
