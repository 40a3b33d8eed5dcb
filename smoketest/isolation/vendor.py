"""What every database does the same, as far as isolation is concerned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a frame may keep the database busy, in seconds, and whether it may write."""

    statement: float
    lock: float
    read_only: bool = False


class Vendor:
    """A database that is known to have transactions and savepoints, and nothing more.

    The subclasses add limits inside the database and what their database does differently. There
    is one for each private connection.
    """

    #: Whether the statements that pass now are isolation's own.
    is_trusted = False

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Around statements of isolation's own."""
        before, self.is_trusted = self.is_trusted, True
        try:
            yield
        finally:
            self.is_trusted = before

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of a private connection, made from those of the site's connection."""
        return {**settings, "AUTOCOMMIT": True, "OPTIONS": {**settings.get("OPTIONS", {})}}

    def opened(self, connection: BaseDatabaseWrapper) -> None:
        """Called when the connection has been made, before its first transaction."""

    def begin(self, connection: BaseDatabaseWrapper, marker: str, limits: Limits) -> None:
        """Set the limits of a frame in the open transaction, and its savepoint."""
        execute(connection, connection.ops.savepoint_create_sql(marker))

    def rollback(self, connection: BaseDatabaseWrapper, marker: str) -> None:
        """Undo a frame. Raises `django.db.DatabaseError` if its savepoint is gone."""
        execute(connection, connection.ops.savepoint_rollback_sql(marker))

    def ended(self, connection: BaseDatabaseWrapper) -> None:
        """Called when the outermost transaction has been rolled back."""

    def check_constraints(self, connection: BaseDatabaseWrapper) -> None:
        """Raise `django.db.IntegrityError` if the transaction could never commit."""
        if connection.features.can_defer_constraint_checks:
            connection.check_constraints()

    def was_rolled_back_by(self, error: DatabaseError) -> bool:
        """Whether the database itself rolls the whole transaction back with that error."""
        return False


def execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Run a statement of our own, past the wrappers and the log of the code under test."""
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        cursor.execute(sql)
