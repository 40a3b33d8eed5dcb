"""A private database connection that begins its transaction lazily and always rolls back."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from time import monotonic  # imported by name, because a test may patch time.monotonic
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

#: Supported databases by Django's vendor name. Others have no limits inside the database, and their
#: statements cannot be cancelled.
VENDORS: dict[str, type[Vendor]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}

#: Number of recent statements in a message, and the maximum length of each in characters.
_RECENT_STATEMENTS = 5
_STATEMENT_LENGTH = 100


class ConnectionPolicy(Protocol):
    """Decides whether a connection may execute statements, and with which limits."""

    def check_allowed(self, alias: str) -> list[Limits]:
        """Return the limits of the open scopes, outermost first.

        Raises `smoketest.isolation.IsolationError` if the thread may not use the database.
        """

    def record_error(self, error: IsolationError) -> None:
        """Record an error that makes the test errored even if its code catches it."""

    def acquire_slot(self, alias: str) -> None:
        """Wait until no other thread uses a serialized database."""

    def release_slot(self, alias: str) -> None:
        """Allow the next thread to use a serialized database."""


class _DenyAll:
    """The policy of connections that the code under test creates itself."""

    def check_allowed(self, alias: str) -> list[Limits]:
        msg = (
            f"A smoke test may not create its own connection to {alias!r}. Use"
            f" django.db.connections[{alias!r}] in the thread of the test."
        )
        raise IsolationError(msg)

    def record_error(self, error: IsolationError) -> None:
        """Do nothing; never called, because no statement is allowed."""

    def acquire_slot(self, alias: str) -> None:
        """Do nothing; never called, because no transaction begins."""

    def release_slot(self, alias: str) -> None:
        """Do nothing, because no slot was acquired."""


class Snapshot(NamedTuple):
    """State of a connection at the beginning of a scope."""

    #: Django's record of the open ``atomic`` blocks.
    atomic_blocks: list[Any]
    savepoint_ids: list[str]
    execute_wrappers: list[Any]
    #: Number of scopes that have begun in the database.
    depth: int


class PrivateConnection(BaseDatabaseWrapper):
    """Mixin for the site's connection class, see `private_connection`.

    The connection reports that it is in an atomic block even before its transaction has begun. An
    ``atomic`` block of the code under test therefore creates a savepoint, never a transaction that
    could commit, and ``on_commit`` hooks do not run. The transaction begins with the first
    statement, so a database that no test uses is never connected to.
    """

    policy: ConnectionPolicy = _DenyAll()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.isolation_vendor = VENDORS.get(self.vendor, Vendor)()
        self.execute_wrappers.append(self._guard)
        #: Held while the connection is closed, or killed by another thread.
        self._closing = threading.Lock()
        self._outermost: Any = Atomic(self.alias, savepoint=False, durable=False)
        self._outermost._from_testcase = True  # type: ignore[attr-defined] # so that durable blocks may nest
        #: Savepoints of the scopes that have begun on this connection, outermost first.
        self._savepoints: list[str] = []
        #: The latest statements of the innermost scope.
        self._recent: deque[str] = deque(maxlen=_RECENT_STATEMENTS)
        #: The statement that the code under test is executing.
        self._executing: str | None = None
        #: Whether the database has rolled back the outer scopes.
        self._are_outer_scopes_lost = False
        #: Whether the session state may have changed, so that the session must not be reused.
        self._is_tainted = False
        self._connect_timeout = 0.0
        self._set_in_atomic_block()

    # Overrides of Django's methods

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
        """Yield a cursor without closing the connection, which would end the transaction."""
        with self.cursor() as cursor:
            yield cursor

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        return self.isolation_vendor.connection_params(params, self._connect_timeout)

    def get_new_connection(self, conn_params: Any) -> Any:
        if not self.isolation_vendor.is_trusted:
            self.policy.check_allowed(self.alias)
            msg = (
                f"A smoke test may not create its own driver connection to {self.alias!r}. Use"
                f" django.db.connections[{self.alias!r}]."
            )
            raise IsolationError(msg)
        return super().get_new_connection(conn_params)

    def close(self) -> None:
        """Close the connection for the code under test."""
        self.before_close()
        with self._closing, self.isolation_vendor.trusted():
            super().close()
            if self.closed_in_transaction:  # Django keeps the closed connection
                self.connection = None
                self.isolation_vendor.closed()

    def validate_no_atomic_block(self) -> None:
        """Refuse an explicit commit, rollback or change of autocommit."""
        if not self.isolation_vendor.is_trusted:
            raise self.refuse("a commit, rollback or change of autocommit by Django")

    def close_if_unusable_or_obsolete(self) -> None:
        """Do nothing: request signals sent by a test must not end its transaction."""

    def _guard(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        with self.statement(sql):
            return execute(sql, params, many, context)

    # Interface for the vendor, see `smoketest.isolation.vendor.Guarded`

    @contextmanager
    def statement(self, sql: Any) -> Iterator[None]:
        """Check a statement of the code under test, from Django's cursors or the driver's.

        Begins the transaction if necessary, because a cursor may outlive the scope in which it was
        created. Raises `IsolationError` for a statement that is refused.
        """
        if self.isolation_vendor.is_trusted:
            yield
            return
        limits = self._enter()
        text, outer = self._text(sql), self._executing
        if text == outer:  # already checked for Django's cursor
            yield
            return
        self._check_statement(text, limits)
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
            f"Refused on database {self.alias!r}: {what}. A smoke test runs in a transaction that"
            " is always rolled back, and may neither end it nor change its limits. Remove"
            " statements that begin, commit or roll back a transaction; atomic() and savepoints"
            " work."
        )
        self.policy.record_error(refusal)
        return refusal

    def before_close(self) -> None:
        """Detect a commit by the code under test while the connection is still open."""
        if not self._savepoints or self.connection is None or self.isolation_vendor.is_trusted:
            return
        with self.isolation_vendor.trusted():
            try:
                self.isolation_vendor.rollback(self, self._savepoints[0], None)
            except Exception as error:  # noqa: BLE001 - drivers have different exceptions
                if self.isolation_vendor.is_savepoint_missing(error):
                    self.policy.record_error(self._transaction_ended())

    @contextmanager
    def second_connection(self, timeout: float) -> Iterator[Any]:
        """Open a short-lived driver connection; connecting takes at most `timeout` seconds."""
        params = super().get_connection_params()
        with self.isolation_vendor.trusted():
            driver = super().get_new_connection(
                self.isolation_vendor.connection_params(params, timeout)
            )
        with closing(driver):
            yield driver

    def recreate_savepoints(self) -> None:
        self._are_outer_scopes_lost = True
        with self.isolation_vendor.trusted():
            for savepoint in self._savepoints:
                execute(self, self.ops.savepoint_create_sql(savepoint))

    # Interface for `smoketest.isolation.thread`

    def snapshot(self) -> Snapshot:
        return Snapshot(
            list(self.atomic_blocks),
            list(self.savepoint_ids),
            list(self.execute_wrappers),
            len(self._savepoints),
        )

    def end_scope(self, scopes: list[Limits], before: Snapshot) -> bool:
        """Roll back the innermost scope.

        Return whether the changes of the outer scopes are still present. Raises `IntegrityError` if
        deferred constraints would have prevented a commit, and `TransactionEndedError` if the code
        under test committed or rolled back the transaction. The scope is closed in either case.
        """
        with self.isolation_vendor.trusted():
            if self._savepoints and self._is_lost():
                self._discard()  # the database rolls back a lost connection
            self.atomic_blocks, self.savepoint_ids, self.execute_wrappers, depth_before = before
            self.run_on_commit = []
            if len(self._savepoints) < len(scopes):  # it did not use this database
                return len(self._savepoints) >= depth_before
            self.needs_rollback = False
            outer = scopes[-2] if len(scopes) > 1 else None
            violation = None
            if outer is None:
                try:
                    if self.isolation_vendor.finish(self, self._savepoints[0]):
                        self._savepoints.clear()
                        return self._end_transaction()
                except IntegrityError as error:
                    violation = error
                except Exception:  # noqa: BLE001, S110 - the single steps below find the cause
                    pass
            violation = violation or self._deferred_violation()
            is_outer_intact = self._roll_back(outer)
            if violation is not None and self._is_new_violation():
                raise violation
            return is_outer_intact

    def kill(self) -> None:
        """Release the locks of the connection; called from another thread."""
        with self._closing, suppress(Exception):
            if self.connection is not None:
                self.isolation_vendor.kill(self)

    def dispose(self) -> None:
        """Close the connection permanently."""
        self._discard()

    # Implementation

    def _is_lost(self) -> bool:
        if self.closed_in_transaction or self.connection is None:
            return True
        return self.isolation_vendor.is_unusable(self)

    def _is_new_violation(self) -> bool:
        """Return whether the test caused the violation, so that the rollback removed it."""
        if self.connection is None:
            return True
        try:
            return self.isolation_vendor.is_new_violation(self)
        except Error:
            return True

    def _enter(self) -> Limits:
        """Begin the transaction if necessary, and return the limits of the innermost scope."""
        scopes = self.policy.check_allowed(self.alias)
        if len(self._savepoints) < len(scopes) and not self.closed_in_transaction:
            with self.isolation_vendor.trusted():
                self._begin(scopes)
        return scopes[-1]

    def _text(self, sql: Any) -> str:
        if isinstance(sql, bytes | bytearray):
            return sql.decode(errors="replace")
        if hasattr(sql, "as_string"):  # psycopg's composed statements
            return str(sql.as_string(self.connection))
        return str(sql)

    def _check_statement(self, text: str, limits: Limits) -> None:
        """Record the statements in `text`, and raise an error for one that is refused."""
        vendor = self.isolation_vendor
        is_body = False
        for words in leading_words(text, vendor.dialect):
            shown = _abbreviate(text)
            is_body |= words[0] == "CREATE"  # the body of a trigger or function may contain END
            if vendor.is_refused(words, text) and not (is_body and words[0] == "END"):
                raise self.refuse(shown)
            if limits.read_only and vendor.is_write(words):
                msg = f"Refused on database {self.alias!r}: {shown}. The test is read_only."
                raise IsolationError(msg)
            self._is_tainted |= vendor.outlives_transaction(words, text)
            self._recent.append(shown)

    def _begin(self, scopes: list[Limits]) -> None:
        # The wrappers see only statements of the test.
        wrappers, self.execute_wrappers = self.execute_wrappers, []
        try:
            if not self._savepoints:
                if self.isolation_vendor.is_serialized:
                    self.policy.acquire_slot(self.alias)
                self._begin_transaction(scopes)
            for limits in scopes[len(self._savepoints) :]:
                self._create_savepoint(limits)
        except BaseException:
            self._discard()
            raise
        finally:
            self.execute_wrappers = wrappers

    def _begin_transaction(self, scopes: list[Limits]) -> None:
        """Begin the transaction; reconnect if the connection was lost after the previous scope."""
        pending, hooks = self.snapshot(), self.run_on_commit
        if self.connection is not None:
            try:
                self._start(scopes[0])
            except (InterfaceError, OperationalError):
                self._drop()
        if self.connection is None:
            self._open(scopes[-1].statement)
            self._start(scopes[0])
        self.atomic_blocks += pending.atomic_blocks[1:]
        self.savepoint_ids += pending.savepoint_ids
        self.run_on_commit = hooks

    def _start(self, limits: Limits) -> None:
        self._unset_in_atomic_block()
        self._outermost.__enter__()
        self._create_savepoint(limits)

    def _open(self, timeout: float) -> None:
        self._connect_timeout = timeout
        super().ensure_connection()
        self.isolation_vendor.opened(self)
        self.policy.check_allowed(self.alias)  # the test may have timed out while connecting

    def _create_savepoint(self, limits: Limits) -> None:
        # Unpredictable, so that the code under test cannot use the same name.
        savepoint = f"smoketest_{secrets.token_hex(8)}"
        self.isolation_vendor.begin(self, savepoint, limits)
        self._savepoints.append(savepoint)
        self._recent.clear()

    def _deferred_violation(self) -> IntegrityError | None:
        try:
            self.isolation_vendor.check_constraints(self)
        except IntegrityError as violation:
            return violation
        except Error:
            pass  # the transaction was already broken, and the test has seen the error
        return None

    def _roll_back(self, outer: Limits | None) -> bool:
        """Roll back the innermost scope; return whether the outer scopes are intact."""
        savepoint = self._savepoints.pop()
        try:
            self.isolation_vendor.rollback(self, savepoint, outer)
        except Exception as error:  # including a driver's warning that was turned into an error
            ended = self._transaction_ended()
            self._discard()
            if not self.isolation_vendor.is_savepoint_missing(error):
                return False  # the connection is lost, so the database rolls back
            raise ended from error
        if outer is None:
            return self._end_transaction()
        are_lost, self._are_outer_scopes_lost = self._are_outer_scopes_lost, False
        return not are_lost

    def _end_transaction(self) -> bool:
        """End the transaction after its outermost scope; return whether the scope was intact."""
        are_lost, self._are_outer_scopes_lost = self._are_outer_scopes_lost, False
        if self._is_tainted:
            self._discard()
        else:
            self.isolation_vendor.ended(self)
            self.needs_rollback = True
            self._outermost.__exit__(None, None, None)
            self._set_in_atomic_block()
            self.policy.release_slot(self.alias)
        return not are_lost

    def _transaction_ended(self) -> TransactionEndedError:
        return TransactionEndedError(
            f"The transaction on database {self.alias!r} was ended by the test, so its changes may"
            " have been committed. Remove COMMIT, ROLLBACK and statements that commit implicitly"
            f" from smoke tests. Last statements: {'; '.join(self._recent) or 'none'}"
        )

    def _discard(self) -> None:
        """Drop the connection in any state; the next statement connects again."""
        self._savepoints.clear()
        self._are_outer_scopes_lost = False
        self._drop()
        self.closed_in_transaction = False
        self._set_in_atomic_block()
        self.policy.release_slot(self.alias)

    def _drop(self) -> None:
        """Close the connection through the backend, which may return it to its pool."""
        with self._closing, self.isolation_vendor.trusted():
            if self.connection is not None:
                with suppress(Exception):
                    self.isolation_vendor.ended(self)
                    self._close()  # type: ignore[attr-defined] # of the backend
            self.connection = None
            self._is_tainted = False
            self.isolation_vendor.closed()

    def _set_in_atomic_block(self) -> None:
        self.in_atomic_block = True
        self.atomic_blocks = [self._outermost]
        self.savepoint_ids = []
        self.needs_rollback = False
        self.run_on_commit = []

    def _unset_in_atomic_block(self) -> None:
        self.in_atomic_block = False
        self.atomic_blocks = []
        self.savepoint_ids = []


def private_connection(
    connection: BaseDatabaseWrapper, policy: ConnectionPolicy
) -> PrivateConnection:
    """Return an unopened private connection to the same database, for the calling thread."""
    vendor = VENDORS.get(connection.vendor, Vendor)()
    site_class: Any = type(connection)
    settings = vendor.private_settings(connection.settings_dict)
    private = _private_class(site_class)(settings, connection.alias)
    private.policy = policy
    return private


def refused_connection(connection: BaseDatabaseWrapper) -> PrivateConnection:
    """Return a private connection that refuses to connect."""
    return private_connection(connection, _DenyAll())


@cache
def _private_class(site_class: type[Any]) -> type[PrivateConnection]:
    return type("PrivateConnection", (PrivateConnection, site_class), {})


def _abbreviate(statement: str) -> str:
    """Return the statement on one line, truncated to `_STATEMENT_LENGTH` characters."""
    line = " ".join(statement[: 4 * _STATEMENT_LENGTH].split())
    return line if len(line) <= _STATEMENT_LENGTH else f"{line[:_STATEMENT_LENGTH]}..."
