"""What every database does the same, as far as isolation is concerned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

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

    #: Whether tests that use such databases have to run one after the other.
    takes_turns = False

    def __init__(self) -> None:
        #: Threads whose statements are isolation's own at this moment.
        self._trusted: set[int] = set()

    @property
    def is_trusted(self) -> bool:
        """Whether the statements of this thread are isolation's own."""
        return threading.get_ident() in self._trusted

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Around statements of isolation's own."""
        thread = threading.get_ident()
        if thread in self._trusted:
            yield
            return
        self._trusted.add(thread)
        try:
            yield
        finally:
            self._trusted.discard(thread)

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of a private connection, made from those of the site's connection."""
        return {**settings, "AUTOCOMMIT": True, "OPTIONS": {**settings.get("OPTIONS", {})}}

    def opened(self, connection: BaseDatabaseWrapper) -> None:
        """Called when the connection has been made, before its first transaction."""

    def begin(self, connection: BaseDatabaseWrapper, marker: str, limits: Limits) -> None:
        """Make the savepoint of a frame in the open transaction, and set its limits."""
        execute(connection, connection.ops.savepoint_create_sql(marker))

    def rollback(self, connection: BaseDatabaseWrapper, marker: str, outer: Limits | None) -> None:
        """Undo a frame, and set the limits of the one around it again.

        Raises `django.db.DatabaseError` if the frame's savepoint is gone.
        """
        execute(connection, connection.ops.savepoint_rollback_sql(marker))

    def ended(self, connection: BaseDatabaseWrapper) -> None:
        """Called when the outermost frame is over, or the connection is about to be closed."""

    def check_constraints(self, connection: BaseDatabaseWrapper) -> None:
        """Raise `django.db.IntegrityError` if the transaction could never commit."""
        if connection.features.can_defer_constraint_checks:
            connection.check_constraints()

    def cut(self, connection: BaseDatabaseWrapper) -> None:
        """Free what the connection holds in the database; called from another thread."""


def execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Run a statement of our own, past the wrappers and the log of the code under test."""
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        cursor.execute(sql)
