"""MariaDB and MySQL: limits as session variables of the private connection."""

from __future__ import annotations

import math

from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.vendor import Limits, Vendor, execute


class MySQL(Vendor):
    def begin(self, connection: BaseDatabaseWrapper, marker: str, limits: Limits) -> None:
        super().begin(connection, marker, limits)
        self._limit(connection, limits)

    def rollback(self, connection: BaseDatabaseWrapper, marker: str, outer: Limits | None) -> None:
        super().rollback(connection, marker, outer)
        if outer is not None:
            self._limit(connection, outer)

    def _limit(self, connection: BaseDatabaseWrapper, limits: Limits) -> None:
        lock = max(1, math.ceil(limits.lock))  # whole seconds, the least that the server takes
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            statement = f"max_statement_time = {limits.statement:.3f}"
        else:
            statement = f"max_execution_time = {max(1, round(limits.statement * 1000))}"
        execute(
            connection,
            f"SET SESSION {statement}, SESSION lock_wait_timeout = {lock},"
            f" SESSION innodb_lock_wait_timeout = {lock}",
        )
