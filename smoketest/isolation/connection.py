"""A private copy of a database connection: it begins lazily and always rolls back."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, Protocol

from django.db import DatabaseError, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from smoketest.isolation.errors import IsolationError, TransactionEndedError
from smoketest.isolation.mysql import MySQL
from smoketest.isolation.postgresql import PostgreSQL
from smoketest.isolation.sqlite import SQLite
from smoketest.isolation.vendor import Limits, Vendor

_VENDORS: dict[str, type[Vendor]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}


class Gate(Protocol):
    """Who decides whether a statement may pass, and in which frames it runs."""

    def admit(self, alias: str) -> list[Limits]:
        """The limits of the frames that are open, outermost first.

        Raises `smoketest.isolation.IsolationError` if the thread may not use the database now.
        """

    def take_turn(self, alias: str) -> None:
        """Wait until no other thread uses a database of the kind that takes turns."""

    def end_turn(self, alias: str) -> None:
        """Let the next one have its turn."""


class _ClosedGate:
    """The gate of copies that the code under test makes itself."""

    def admit(self, alias: str) -> list[Limits]:
        msg = f"Smoke tests use the connections of the site; a copy of {alias!r} is refused."
        raise IsolationError(msg)

    def take_turn(self, alias: str) -> None:
        """Never reached."""

    def end_turn(self, alias: str) -> None:
        """It never began."""


class Snapshot(NamedTuple):
    """What is open on a connection when a frame begins."""

    #: What Django keeps of the ``atomic`` blocks.
    atomic_blocks: list[Any]
    savepoint_ids: list[str]
    #: How many frames have begun.
    depth: int


class PrivateConnection(BaseDatabaseWrapper):
    """Mixed into the site's own connection class, see `private_connection`.

    Until its transaction has begun, Django believes that it has: an ``atomic`` block of the code
    under test then makes a savepoint, never a transaction that could commit, and ``on_commit``
    hooks are kept, never run. The transaction begins before the first statement, so that a
    database which no test touches is never connected to.
    """

    gate: Gate = _ClosedGate()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.isolation_vendor = _VENDORS.get(self.vendor, Vendor)()
        self.execute_wrappers.append(self._guard)
        #: Held while the connection is closed, or cut by another thread.
        self._closing = threading.Lock()
        self._outermost: Any = Atomic(self.alias, savepoint=False, durable=False)
        self._outermost._from_testcase = True  # type: ignore[attr-defined] # durable may nest
        #: Savepoints of the frames that have begun on this connection, outermost first.
        self._markers: list[str] = []
        self._pretend_begun()

    # What Django calls

    def ensure_connection(self) -> None:
        if self.isolation_vendor.is_trusted:
            super().ensure_connection()
            return
        frames = self.gate.admit(self.alias)
        if len(self._markers) < len(frames) and not self.closed_in_transaction:
            with self.isolation_vendor.trusted():
                self._begin(frames)
        super().ensure_connection()

    def connect(self) -> None:
        if self.isolation_vendor.is_trusted:
            super().connect()
        else:
            self.ensure_connection()

    def get_new_connection(self, conn_params: Any) -> Any:
        if not self.isolation_vendor.is_trusted:
            self.gate.admit(self.alias)
            msg = f"A smoke test may not make a driver's connection to {self.alias!r} of its own."
            raise IsolationError(msg)
        return super().get_new_connection(conn_params)

    def close_if_unusable_or_obsolete(self) -> None:
        """Never: request signals that a test sends must not end its transaction."""

    def _guard(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        """Around each statement: a cursor may outlive the frame that it was made in."""
        if not self.isolation_vendor.is_trusted:
            self.gate.admit(self.alias)
        return execute(sql, params, many, context)

    # What isolation calls

    def snapshot(self) -> Snapshot:
        return Snapshot(list(self.atomic_blocks), list(self.savepoint_ids), len(self._markers))

    def end_frame(self, frames: list[Limits], before: Snapshot) -> bool:
        """Undo what the innermost of the frames did.

        Returns whether what the outer frames did is still there. Raises `IntegrityError` if the
        frame could never have been committed, and `TransactionEndedError` if the code under test
        committed it or rolled it back. Either way nothing of the frame remains open.
        """
        self.execute_wrappers = [self._guard]
        with self.isolation_vendor.trusted():
            if self._markers and (self.closed_in_transaction or self.connection is None):
                self._discard()  # the database rolls back what the lost connection did
            self.atomic_blocks, self.savepoint_ids, depth_before = before
            self.run_on_commit = []
            if len(self._markers) < len(frames):
                return len(self._markers) >= depth_before
            self.needs_rollback = False
            violation = self._deferred_violation()
            self._roll_back(frames[-2] if len(frames) > 1 else None)
            if violation is not None:
                raise violation
            return True

    def cut(self) -> None:
        """Free what the connection holds in the database; called from another thread."""
        with self._closing, suppress(Exception):
            self.isolation_vendor.cut(self)

    def dispose(self) -> None:
        """Close for good."""
        self._discard()

    # Inside

    def _begin(self, frames: list[Limits]) -> None:
        try:
            if not self._markers:
                if self.isolation_vendor.takes_turns:
                    self.gate.take_turn(self.alias)
                pending, hooks = self.snapshot(), self.run_on_commit
                if self.connection is None:
                    super().ensure_connection()
                    self.isolation_vendor.opened(self)
                self._pretend_nothing_begun()
                self._outermost.__enter__()
                self.atomic_blocks += pending.atomic_blocks[1:]
                self.savepoint_ids += pending.savepoint_ids
                self.run_on_commit = hooks
            for limits in frames[len(self._markers) :]:
                marker = f"smoketest_{secrets.token_hex(8)}"
                self.isolation_vendor.begin(self, marker, limits)
                self._markers.append(marker)
        except BaseException:
            self._discard()
            raise

    def _deferred_violation(self) -> IntegrityError | None:
        try:
            self.isolation_vendor.check_constraints(self)
        except IntegrityError as violation:
            return violation
        except DatabaseError:
            pass  # the transaction had failed before; the test knows
        return None

    def _roll_back(self, outer: Limits | None) -> None:
        marker = self._markers.pop()
        try:
            self.isolation_vendor.rollback(self, marker, outer)
        except DatabaseError as error:
            self._discard()
            msg = (
                f"The transaction on database {self.alias!r} was ended by the test, so what it"
                " wrote before may have been kept. Leave COMMIT, ROLLBACK and statements that"
                " commit by themselves out of smoke tests."
            )
            raise TransactionEndedError(msg) from error
        if outer is None:
            self.isolation_vendor.ended(self)
            self.needs_rollback = True
            self._outermost.__exit__(None, None, None)
            self._pretend_begun()
            self.gate.end_turn(self.alias)

    def _discard(self) -> None:
        """Drop the connection, whatever its state; the next statement makes a new one."""
        self._markers.clear()
        with self._closing:
            if self.connection is not None:
                with suppress(Exception):
                    self.isolation_vendor.ended(self)
                    self.connection.close()
            self.connection = None
        self.closed_in_transaction = False
        self._pretend_begun()
        self.gate.end_turn(self.alias)

    def _pretend_begun(self) -> None:
        self.in_atomic_block = True
        self.atomic_blocks = [self._outermost]
        self.savepoint_ids = []
        self.needs_rollback = False
        self.run_on_commit = []

    def _pretend_nothing_begun(self) -> None:
        self.in_atomic_block = False
        self.atomic_blocks = []
        self.savepoint_ids = []


def private_connection(connection: BaseDatabaseWrapper, gate: Gate) -> PrivateConnection:
    """A connection to the same database, not opened yet, for the thread that calls this."""
    vendor = _VENDORS.get(connection.vendor, Vendor)()
    site_class: Any = type(connection)
    settings = vendor.private_settings(connection.settings_dict)
    private = _private_class(site_class)(settings, connection.alias)
    private.gate = gate
    return private


@cache
def _private_class(site_class: type[Any]) -> type[PrivateConnection]:
    return type("PrivateConnection", (PrivateConnection, site_class), {})
