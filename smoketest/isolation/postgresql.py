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
        statement, lock = (_milliseconds(limits.statement), _milliseconds(limits.lock))
        execute(
            connection,
            f"SET LOCAL statement_timeout = {statement};"
            f"SET LOCAL lock_timeout = {lock};"
            f"SET LOCAL idle_in_transaction_session_timeout = {statement};"
            f"SET LOCAL transaction_read_only = {'on' if limits.read_only else 'off'};"
            f"{connection.ops.savepoint_create_sql(marker)}",
        )


def _milliseconds(seconds: float) -> int:
    """At least 1: zero would mean no limit."""
    return max(1, round(seconds * 1000))
