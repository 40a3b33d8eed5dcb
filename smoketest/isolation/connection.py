"""A private copy of a database connection: it begins lazily and always rolls back."""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, Protocol

from django.db import DatabaseError, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from smoketest.isolation.errors import TransactionEndedError
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

    gate: Gate
    isolation_vendor: Vendor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def close_if_unusable_or_obsolete(self) -> None:
        """Never: request signals that a test sends must not end its transaction."""

    # What isolation calls

    def snapshot(self) -> Snapshot:
        return Snapshot(list(self.atomic_blocks), list(self.savepoint_ids), len(self._markers))

    def end_frame(self, depth: int, before: Snapshot) -> bool:
        """Undo what the innermost frame, the `depth`-th, did.

        Returns whether what the outer frames did is still there. Raises `IntegrityError` if the
        frame could never have been committed, and `TransactionEndedError` if the code under test
        committed it or rolled it back. Either way nothing of the frame remains open.
        """
        with self.isolation_vendor.trusted():
            if self._markers and (self.closed_in_transaction or self.connection is None):
                self._discard()  # the database rolls back what the lost connection did
            self.atomic_blocks, self.savepoint_ids, depth_before = before
            self.run_on_commit = []
            if len(self._markers) < depth:
                return len(self._markers) >= depth_before
            self.needs_rollback = False
            violation = self._deferred_violation()
            self._roll_back(depth)
            if violation is not None:
                raise violation
            return True

    def dispose(self) -> None:
        """Close for good."""
        self._discard()

    # Inside

    def _begin(self, frames: list[Limits]) -> None:
        try:
            if not self._markers:
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

    def _roll_back(self, depth: int) -> None:
        marker = self._markers.pop()
        try:
            self.isolation_vendor.rollback(self, marker)
        except DatabaseError as error:
            self._discard()
            msg = (
                f"The transaction on database {self.alias!r} was ended by the test, so what it"
                " wrote before may have been kept. Leave COMMIT, ROLLBACK and statements that"
                " commit by themselves out of smoke tests."
            )
            raise TransactionEndedError(msg) from error
        if depth == 1:
            self.needs_rollback = True
            self._outermost.__exit__(None, None, None)
            if self.connection is not None:
                self.isolation_vendor.ended(self)
            self._pretend_begun()

    def _discard(self) -> None:
        """Drop the connection, whatever its state; the next statement makes a new one."""
        self._markers.clear()
        with suppress(Exception):
            self.connection.close()
        self.connection = None
        self.closed_in_transaction = False
        self._pretend_begun()

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
    private_class = _private_class(site_class)
    private = private_class(vendor.private_settings(connection.settings_dict), connection.alias)
    private.gate = gate
    private.isolation_vendor = vendor
    return private


@cache
def _private_class(site_class: type[Any]) -> type[PrivateConnection]:
    return type("PrivateConnection", (PrivateConnection, site_class), {})
