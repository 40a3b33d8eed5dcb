"""PostgreSQL: limits by ``SET LOCAL``, in one round trip with the savepoint."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.vendor import Limits, Vendor, execute


class PostgreSQL(Vendor):
    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        private = super().private_settings(settings)
        # Hung tests would drain the pool that the site's requests share.
        private["OPTIONS"].pop("pool", None)
        return private

    def begin(self, connection: BaseDatabaseWrapper, marker: str, limits: Limits) -> None:
        statement, lock = _milliseconds(limits.statement), _milliseconds(limits.lock)
        # What is set after the savepoint is undone with it.
        sql = (
            f"{connection.ops.savepoint_create_sql(marker)};"
            f"SET LOCAL statement_timeout = {statement};"
            f"SET LOCAL lock_timeout = {lock};"
            f"SET LOCAL idle_in_transaction_session_timeout = {statement}"
        )
        execute(connection, f"{sql};SET TRANSACTION READ ONLY" if limits.read_only else sql)


def _milliseconds(seconds: float) -> int:
    """At least 1: zero would mean no limit."""
    return max(1, round(seconds * 1000))
