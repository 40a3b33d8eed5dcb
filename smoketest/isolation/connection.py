"""A private copy of a database connection: it begins lazily and always rolls back."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from time import monotonic  # bound here: a test may patch the module
from typing import Any, NamedTuple, Protocol

from django.db import Error, IntegrityError, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from smoketest.isolation.errors import (
    IsolationError,
    RefusedStatementError,
    TransactionEndedError,
)
from smoketest.isolation.mysql import MySQL
from smoketest.isolation.postgresql import PostgreSQL
from smoketest.isolation.sqlite import SQLite
from smoketest.isolation.statements import leading_words
from smoketest.isolation.vendor import Attempt, Limits, Vendor, execute

#: The databases that limits and cuts are written for, as Django names them.
VENDORS: dict[str, type[Vendor]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}

#: How many statements of a frame are remembered, and how many characters of each are shown.
_SEEN = 5
_SHOWN = 100


class ConnectionPolicy(Protocol):
    """Who decides whether a statement may pass, and in which frames it runs."""

    def check_allowed(self, alias: str) -> list[Limits]:
        """The limits of the frames that are open, outermost first.

        Raises `smoketest.isolation.IsolationError` if the thread may not use the database now.
        """

    def note(self, problem: IsolationError) -> None:
        """The test is errored for it, whatever else comes of it."""

    def acquire_slot(self, alias: str) -> None:
        """Wait until no other thread uses a database of the kind that takes turns."""

    def release_slot(self, alias: str) -> None:
        """Let the next one have its turn."""


class _ClosedGate:
    """The gate of connections that the code under test makes itself."""

    def check_allowed(self, alias: str) -> list[Limits]:
        msg = f"A smoke test may not make a connection to {alias!r} of its own; use the site's."
        raise IsolationError(msg)

    def note(self, problem: IsolationError) -> None:
        """Never reached."""

    def acquire_slot(self, alias: str) -> None:
        """Never reached."""

    def release_slot(self, alias: str) -> None:
        """It never began."""


class Snapshot(NamedTuple):
    """What is open on a connection when a frame begins."""

    #: What Django keeps of the ``atomic`` blocks.
    atomic_blocks: list[Any]
    savepoint_ids: list[str]
    execute_wrappers: list[Any]
    #: How many frames have begun.
    depth: int


class PrivateConnection(BaseDatabaseWrapper):
    """Mixed into the site's own connection class, see `private_connection`.

    Until its transaction has begun, Django believes that it has: an ``atomic`` block of the code
    under test then makes a savepoint, never a transaction that could commit, and ``on_commit``
    hooks are kept, never run. The transaction begins before the first statement, so that a
    database which no test touches is never connected to.
    """

    gate: ConnectionPolicy = _ClosedGate()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.isolation_vendor = VENDORS.get(self.vendor, Vendor)()
        self.execute_wrappers.append(self._guard)
        #: Held while the connection is closed, or cut by another thread.
        self._closing = threading.Lock()
        self._outermost: Any = Atomic(self.alias, savepoint=False, durable=False)
        self._outermost._from_testcase = True  # type: ignore[attr-defined] # durable may nest
        #: Savepoints of the frames that have begun on this connection, outermost first.
        self._markers: list[str] = []
        #: The latest statements of the innermost frame.
        self._seen: deque[str] = deque(maxlen=_SEEN)
        #: The statement that the code under test executes at present.
        self._executing: str | None = None
        #: Whether the database itself has undone the outer frames.
        self._are_outer_frames_lost = False
        #: Whether the session differs from a new one, so that it is not used again.
        self._is_tainted = False
        self._connect_timeout = 0.0
        self._pretend_begun()

    # What Django calls

    def ensure_connection(self) -> None:
        if not self.isolation_vendor.is_trusted:
            self._enter()
        super().ensure_connection()

    def connect(self) -> None:
        if self.isolation_vendor.is_trusted:
            super().connect()
        else:
            self.ensure_connection()

    @contextmanager
    def temporary_connection(self) -> Iterator[Any]:
        """A cursor. Django's would close the connection after it, and so end the transaction."""
        with self.cursor() as cursor:
            yield cursor

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        return self.isolation_vendor.connection_params(params, self._connect_timeout)

    def get_new_connection(self, conn_params: Any) -> Any:
        if not self.isolation_vendor.is_trusted:
            self.gate.check_allowed(self.alias)
            msg = f"A smoke test may not make a driver's connection to {self.alias!r} of its own."
            raise IsolationError(msg)
        return super().get_new_connection(conn_params)

    def close(self) -> None:
        """Called by the code under test."""
        self.before_close()
        with self._closing, self.isolation_vendor.trusted():
            super().close()
            if self.closed_in_transaction:  # Django would use the closed connection on
                self.connection = None
                self.isolation_vendor.closed()

    def validate_no_atomic_block(self) -> None:
        """Called where Django would commit, roll back or change autocommit on demand."""
        if not self.isolation_vendor.is_trusted:
            raise self.refuse("a commit, rollback or change of autocommit by Django")

    def close_if_unusable_or_obsolete(self) -> None:
        """Never: request signals that a test sends must not end its transaction."""

    def _guard(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        with self.statement(sql):
            return execute(sql, params, many, context)

    # What the vendor calls

    @contextmanager
    def statement(self, sql: Any) -> Iterator[None]:
        """Around each statement of the code under test, through Django's cursors or the driver's.

        Its transaction begins here at the latest: a cursor may outlive the frame that it was made
        in. Raises `IsolationError` for a statement that is refused.
        """
        if self.isolation_vendor.is_trusted:
            yield
            return
        limits = self._enter()
        text, outer = self._text(sql), self._executing
        if text == outer:  # Django's cursor has asked already
            yield
            return
        self._look_at(text, limits)
        self._executing = text
        began = monotonic()
        try:
            yield
        except Exception as error:
            attempt = Attempt(sql=text, limits=limits, seconds=monotonic() - began)
            if outer is None:
                self.isolation_vendor.failed(self, error, attempt)
            raise
        finally:
            self._executing = outer

    def refuse(self, what: str) -> RefusedStatementError:
        refusal = RefusedStatementError(
            f"Refused on database {self.alias!r}: {what}. Smoke tests run in a transaction that is"
            " always rolled back, and may neither end it nor lift its limits. Leave out what"
            " begins, commits or rolls back; atomic() and savepoints work."
        )
        self.gate.note(refusal)
        return refusal

    def before_close(self) -> None:
        """The code under test may have committed; a closed connection tells nothing any more."""
        if not self._markers or self.connection is None or self.isolation_vendor.is_trusted:
            return
        with self.isolation_vendor.trusted():
            try:
                self.isolation_vendor.rollback(self, self._markers[0], None)
            except Exception as error:  # noqa: BLE001 - of whichever driver
                if self.isolation_vendor.is_marker_gone(error):
                    self.gate.note(self._ended())

    @contextmanager
    def second_connection(self, timeout: float) -> Iterator[Any]:
        """Another connection of the driver, for a moment; connecting takes `timeout` at most."""
        params = super().get_connection_params()
        with self.isolation_vendor.trusted():
            driver = super().get_new_connection(
                self.isolation_vendor.connection_params(params, timeout)
            )
        with closing(driver):
            yield driver

    def mark_again(self) -> None:
        self._are_outer_frames_lost = True
        with self.isolation_vendor.trusted():
            for marker in self._markers:
                execute(self, self.ops.savepoint_create_sql(marker))

    # What isolation calls

    def snapshot(self) -> Snapshot:
        return Snapshot(
            list(self.atomic_blocks),
            list(self.savepoint_ids),
            list(self.execute_wrappers),
            len(self._markers),
        )

    def end_frame(self, frames: list[Limits], before: Snapshot) -> bool:
        """Undo what the innermost of the frames did.

        Returns whether what the outer frames did is still there. Raises `IntegrityError` if the
        frame could never have been committed, and `TransactionEndedError` if the code under test
        committed it or rolled it back. Either way nothing of the frame remains open.
        """
        with self.isolation_vendor.trusted():
            if self._markers and self._is_lost():
                self._discard()  # the database rolls back what the lost connection did
            self.atomic_blocks, self.savepoint_ids, self.execute_wrappers, depth_before = before
            self.run_on_commit = []
            if len(self._markers) < len(frames):
                return len(self._markers) >= depth_before
            self.needs_rollback = False
            outer = frames[-2] if len(frames) > 1 else None
            violation = None
            if outer is None:
                try:
                    if self.isolation_vendor.finish(self, self._markers[0]):
                        self._markers.clear()
                        return self._end_transaction()
                except IntegrityError as error:
                    violation = error
                except Exception:  # noqa: BLE001, S110 - of whichever driver; the steps tell more
                    pass
            violation = violation or self._deferred_violation()
            is_outer_intact = self._roll_back(outer)
            if violation is not None and self._is_of_the_test():
                raise violation
            return is_outer_intact

    def kill(self) -> None:
        """Free what the connection holds in the database; called from another thread."""
        with self._closing, suppress(Exception):
            if self.connection is not None:
                self.isolation_vendor.kill(self)

    def dispose(self) -> None:
        """Close for good."""
        self._discard()

    # Inside

    def _is_lost(self) -> bool:
        if self.closed_in_transaction or self.connection is None:
            return True
        return self.isolation_vendor.is_unusable(self)

    def _is_of_the_test(self) -> bool:
        """Whether the rollback has undone the violation; else it was there before."""
        if self.connection is None:
            return True
        try:
            return self.isolation_vendor.is_new_violation(self)
        except Error:
            return True

    def _enter(self) -> Limits:
        """Begin the transaction, if it has not yet; gives the limits of the innermost frame."""
        frames = self.gate.check_allowed(self.alias)
        if len(self._markers) < len(frames) and not self.closed_in_transaction:
            with self.isolation_vendor.trusted():
                self._begin(frames)
        return frames[-1]

    def _text(self, sql: Any) -> str:
        if isinstance(sql, bytes | bytearray):
            return sql.decode(errors="replace")
        if hasattr(sql, "as_string"):  # psycopg's composed statements
            return str(sql.as_string(self.connection))
        return str(sql)

    def _look_at(self, text: str, limits: Limits) -> None:
        """Remember the statements of the text, and refuse what must not reach the database."""
        vendor = self.isolation_vendor
        is_body = False
        for words in leading_words(text, vendor.dialect):
            shown = _shown(text)
            is_body |= words[0] == "CREATE"  # of a trigger or function, with an END of its own
            if vendor.is_refused(words, text) and not (is_body and words[0] == "END"):
                raise self.refuse(shown)
            if limits.read_only and vendor.is_write(words):
                msg = f"Refused on database {self.alias!r}, since the test is read_only: {shown}"
                raise IsolationError(msg)
            self._is_tainted |= vendor.outlives_transaction(words, text)
            self._seen.append(shown)

    def _begin(self, frames: list[Limits]) -> None:
        wrappers, self.execute_wrappers = self.execute_wrappers, []  # they see the test's alone
        try:
            if not self._markers:
                if self.isolation_vendor.takes_turns:
                    self.gate.acquire_slot(self.alias)
                self._begin_transaction(frames)
            for limits in frames[len(self._markers) :]:
                self._mark(limits)
        except BaseException:
            self._discard()
            raise
        finally:
            self.execute_wrappers = wrappers

    def _begin_transaction(self, frames: list[Limits]) -> None:
        """Begin, on a new connection if the one of earlier frames has been lost since."""
        pending, hooks = self.snapshot(), self.run_on_commit
        if self.connection is not None:
            try:
                self._start(frames[0])
            except (InterfaceError, OperationalError):
                self._drop()
        if self.connection is None:
            self._open(frames[-1].statement)
            self._start(frames[0])
        self.atomic_blocks += pending.atomic_blocks[1:]
        self.savepoint_ids += pending.savepoint_ids
        self.run_on_commit = hooks

    def _start(self, limits: Limits) -> None:
        self._pretend_nothing_begun()
        self._outermost.__enter__()
        self._mark(limits)

    def _open(self, timeout: float) -> None:
        self._connect_timeout = timeout
        super().ensure_connection()
        self.isolation_vendor.opened(self)
        self.gate.check_allowed(self.alias)  # connecting may have taken longer than the test has

    def _mark(self, limits: Limits) -> None:
        marker = f"smoketest_{secrets.token_hex(8)}"
        self.isolation_vendor.begin(self, marker, limits)
        self._markers.append(marker)
        self._seen.clear()

    def _deferred_violation(self) -> IntegrityError | None:
        try:
            self.isolation_vendor.check_constraints(self)
        except IntegrityError as violation:
            return violation
        except Error:
            pass  # the transaction had failed before; the test knows
        return None

    def _roll_back(self, outer: Limits | None) -> bool:
        """Undo the innermost frame; gives whether the outer ones are still there."""
        marker = self._markers.pop()
        try:
            self.isolation_vendor.rollback(self, marker, outer)
        except Exception as error:  # a driver's warning that was made an error, too
            ended = self._ended()
            self._discard()
            if not self.isolation_vendor.is_marker_gone(error):
                return False  # the connection is lost, and what it did is rolled back
            raise ended from error
        if outer is None:
            return self._end_transaction()
        are_lost, self._are_outer_frames_lost = self._are_outer_frames_lost, False
        return not are_lost

    def _end_transaction(self) -> bool:
        """When its outermost frame is undone; gives whether that had been whole until then."""
        are_lost, self._are_outer_frames_lost = self._are_outer_frames_lost, False
        if self._is_tainted:
            self._discard()
        else:
            self.isolation_vendor.ended(self)
            self.needs_rollback = True
            self._outermost.__exit__(None, None, None)
            self._pretend_begun()
            self.gate.release_slot(self.alias)
        return not are_lost

    def _ended(self) -> TransactionEndedError:
        return TransactionEndedError(
            f"The transaction on database {self.alias!r} was ended by the test, so what it wrote"
            " before may have been kept. Leave COMMIT, ROLLBACK and what commits by itself out of"
            f" smoke tests. Its last statements were: {'; '.join(self._seen) or 'none'}"
        )

    def _discard(self) -> None:
        """Drop the connection, whatever its state; the next statement makes a new one."""
        self._markers.clear()
        self._are_outer_frames_lost = False
        self._drop()
        self.closed_in_transaction = False
        self._pretend_begun()
        self.gate.release_slot(self.alias)

    def _drop(self) -> None:
        """Close as the backend does, which may give its connection back to a pool of its own."""
        with self._closing, self.isolation_vendor.trusted():
            if self.connection is not None:
                with suppress(Exception):
                    self.isolation_vendor.ended(self)
                    self._close()  # type: ignore[attr-defined] # of the backend
            self.connection = None
            self._is_tainted = False
            self.isolation_vendor.closed()

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


def private_connection(
    connection: BaseDatabaseWrapper, gate: ConnectionPolicy
) -> PrivateConnection:
    """A connection to the same database, not opened yet, for the thread that calls this."""
    vendor = VENDORS.get(connection.vendor, Vendor)()
    site_class: Any = type(connection)
    settings = vendor.private_settings(connection.settings_dict)
    private = _private_class(site_class)(settings, connection.alias)
    private.gate = gate
    return private


def refused_connection(connection: BaseDatabaseWrapper) -> PrivateConnection:
    """One that knows its database, and never connects to it."""
    return private_connection(connection, _ClosedGate())


@cache
def _private_class(site_class: type[Any]) -> type[PrivateConnection]:
    return type("PrivateConnection", (PrivateConnection, site_class), {})


def _shown(statement: str) -> str:
    """A statement on one line, its end left out where it is long."""
    line = " ".join(statement[: 4 * _SHOWN].split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
