"""The base class for databases: isolation that needs only transactions and savepoints."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

from django.db import DatabaseError
from django.db.transaction import Atomic

from smoketest.isolation.statements import STANDARD, code, ends_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a scope: timeouts in seconds, and whether writes are refused."""

    #: Maximum duration of a statement.
    statement: float
    #: Maximum wait for a lock.
    lock: float
    #: Maximum pause between two statements.
    idle: float
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A statement that failed."""

    sql: str
    limits: Limits
    #: Seconds until it failed.
    seconds: float

    @property
    def has_waited(self) -> bool:
        """Whether it waited for the whole lock timeout; a statement with NOWAIT does not."""
        return self.seconds >= 0.9 * self.limits.lock


class Guarded(Protocol):
    """The interface of a private connection that a `Vendor` uses."""

    alias: str
    connection: Any
    ops: Any
    features: Any
    needs_rollback: bool

    @property
    def wrap_database_errors(self) -> Any: ...

    def create_cursor(self) -> Any:
        """Return a cursor of the driver."""

    def check_constraints(self, table_names: list[str] | None = None) -> None:
        """Raise `django.db.IntegrityError` if a foreign key refers to a missing row."""

    def statement(self, sql: Any) -> AbstractContextManager[None]:
        """Check a statement of the code under test before it runs."""

    def refuse(self, what: str) -> Exception:
        """Record that the test tried to end its transaction, and return the error to raise."""

    def before_close(self) -> None:
        """Detect a committed transaction before the code under test closes the connection."""

    def second_connection(self, timeout: float) -> AbstractContextManager[Any]:
        """Open a short-lived second connection; connecting takes at most `timeout` seconds."""

    def recreate_savepoints(self) -> None:
        """Create the savepoints of the scopes again after the database rolled everything back."""


class Vendor:
    """Isolation on a database with transactions and savepoints.

    Subclasses add limits that the database enforces, and database-specific restrictions. Each
    private connection has its own instance.
    """

    #: Whether statements before the first write run without a transaction.
    reads_in_autocommit = False
    #: Pattern for `smoketest.isolation.statements.leading_words`.
    dialect = STANDARD
    #: Attributes of the driver's connection that a test may change.
    driver_settings: Sequence[str] = ()
    #: Pattern for SQL that sets a sequence, and a fast pattern that such SQL contains.
    sequence_setter: re.Pattern[str] | None = None
    sequence_hint = re.compile("setval|sequence|restart", re.IGNORECASE)

    def __init__(self) -> None:
        #: Threads that are executing statements of isolation itself.
        self._trusted: set[int] = set()
        #: A duplicate of the driver's socket, see `keep_socket`.
        self._socket: socket.socket | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the current thread is executing statements of isolation itself."""
        return threading.get_ident() in self._trusted

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Exempt statements of isolation itself from its checks."""
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
        """Return the settings of a private connection, based on those of the site's connection."""
        return {**settings, "AUTOCOMMIT": True, "OPTIONS": {**settings.get("OPTIONS", {})}}

    def slot(self, database: str) -> str | None:
        """Return a name for which only one thread at a time writes, or None.

        `database` is its ``NAME`` in the settings.
        """
        return None

    def connection_params(self, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Return the driver's parameters with a connect timeout of at most `timeout` seconds."""
        return params

    @contextmanager
    def restrict_receivers(self, connection: Guarded, transaction: Atomic) -> Iterator[None]:
        """Prevent receivers of `connection_created` from writing, while they may change settings.

        `transaction` begins and ends a transaction. By default, everything is rolled back.
        """
        with transaction:
            yield
            connection.needs_rollback = True

    def opened(self, connection: Guarded) -> None:
        """Prepare a new connection, before its first transaction."""

    def exposed(self, connection: Guarded) -> None:
        """Prepare the transaction for code under test that uses the driver's connection."""

    def attributes(self, driver: Any) -> dict[str, Any]:
        """Return the attributes of the driver's connection that change the results of queries."""
        return {
            name: getattr(driver, name) for name in self.driver_settings if hasattr(driver, name)
        }

    def is_unusable(self, connection: Guarded) -> bool:
        """Return whether an operation left open by the test blocks the connection."""
        return False

    def closed(self) -> None:
        """Release resources after the connection was closed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def is_read(self, sql: str) -> bool:
        """Return whether a statement can run without a transaction."""
        return False

    def begin_reading(self, connection: Guarded, limits: Limits) -> None:
        """Set the limits of statements that run without a transaction, and refuse writes."""

    def begin(self, connection: Guarded, savepoint: str, limits: Limits) -> None:
        """Create the savepoint of a scope in the open transaction, and set its limits."""
        execute(connection, connection.ops.savepoint_create_sql(savepoint))

    def finish(self, connection: Guarded, savepoint: str) -> bool:
        """Check constraints, roll back the outermost scope and end the transaction in one step.

        Return False if the database does not support that. If this raises an exception, the
        caller repeats the steps one by one.
        """
        return False

    def rollback(self, connection: Guarded, savepoint: str, outer: Limits | None) -> None:
        """Roll back a scope, and restore the limits of the enclosing one.

        Raises `django.db.Error`; see `is_savepoint_missing`.
        """
        execute(connection, connection.ops.savepoint_rollback_sql(savepoint))

    def is_savepoint_missing(self, error: Exception) -> bool:
        """Return whether `rollback` failed because the savepoint does not exist."""
        return isinstance(error, DatabaseError)

    def ended(self, connection: Guarded) -> None:
        """Reset state after the outermost scope, or before the connection is closed."""

    def check_constraints(self, connection: Guarded) -> None:
        """Raise `django.db.IntegrityError` if deferred constraints would prevent a commit."""
        if connection.features.can_defer_constraint_checks:
            connection.check_constraints()

    def is_refused(self, words: tuple[str, ...], sql: str) -> bool:
        """Return whether a statement with these leading words would end the transaction."""
        return ends_transaction(words)

    def sets_sequence(self, sql: str) -> bool:
        """Return whether a statement would set a sequence or counter of ids to a value.

        Production would get duplicate keys: a rollback does not undo it, and the highest id that
        the test can see is lower than that of a row that is being inserted.
        """
        if self.sequence_setter is None or self.sequence_hint.search(sql) is None:
            return False
        return self.sequence_setter.search(code(sql, self.dialect)) is not None

    def is_write(self, words: tuple[str, ...]) -> bool:
        """Return whether isolation has to refuse a statement because the scope is read-only."""
        return False

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        """Return whether a statement may have effects that a rollback does not undo.

        Examples are session variables and session locks. The connection is then not reused.
        """
        return False

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        """Handle an error of the code under test; may add advice to its message."""

    def is_new_violation(self, connection: Guarded) -> bool:
        """Return whether the test caused the constraint violation; called after the rollback."""
        return True

    def kill(self, connection: Guarded) -> None:
        """Release the locks of the connection; called from another thread."""

    def keep_socket(self, descriptor: int) -> None:
        """Keep a duplicate of the driver's socket for `shut_down_socket`.

        The driver may close its own descriptor at any time, after which the number may be reused.
        """
        self.closed()
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def shut_down_socket(self) -> None:
        """Shut down the socket, so that the server ends the session and pending reads return."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def execute(connection: Guarded, sql: str) -> None:
    """Execute a statement of isolation itself, bypassing execute wrappers and the query log."""
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        cursor.execute(sql)


def refuse_methods(connection: Guarded, is_trusted: Callable[[], bool], *names: str) -> None:
    """Make methods of the driver's connection raise when the code under test calls them."""

    def refused(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            if is_trusted():
                return original(*args, **kwargs)
            raise connection.refuse(f"the driver's {original.__name__}()")

        return method

    for name in names:
        if hasattr(connection.connection, name):
            setattr(connection.connection, name, refused(getattr(connection.connection, name)))


def check_before_close(connection: Guarded) -> None:
    """Make the driver's ``close`` method call `Guarded.before_close` first."""
    close = connection.connection.close

    @wraps(close)
    def checked_close() -> None:
        connection.before_close()
        close()

    connection.connection.close = checked_close


def driver_of_cursor(
    connection: Guarded, packages: tuple[str, ...], read: Callable[[Any], Any]
) -> property:
    """Return a property for a cursor class, which the code under test uses to get the driver.

    Reading it is the same as reading it from Django's connection. The packages of the driver
    itself read it for each statement.
    """

    def driver(self: Any) -> Any:
        if not sys._getframe(1).f_globals.get("__name__", "").startswith(packages):
            _ = connection.connection  # begins the transaction; the session is not reused
        return read(self)

    return property(driver)


def driver_error(error: Exception) -> Exception:
    """Return the driver's exception, unwrapped from Django's."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


@dataclass(frozen=True, slots=True)
class Holder:
    """A client that probably holds the lock that a statement waited for."""

    process: int
    user: str
    client: str
    #: Age of its transaction in seconds.
    seconds: float

    def __str__(self) -> str:
        client = ", ".join(part for part in (f"user {self.user}", self.client) if part)
        return f"process {self.process} ({client}), in a transaction for {self.seconds:.0f} s"


def explain_lock(error: Exception, limits: Limits, holders: list[Holder]) -> None:
    """Add the lock timeout and the probable holders of the lock to the message of `error`."""
    probably = f" Probable holder: {'; or '.join(map(str, holders))}." if holders else ""
    advice = (
        f"Timed out after {limits.lock:g} s (SMOKETEST_LOCK_TIMEOUT) waiting for a lock that"
        f" another transaction holds.{probably}"
    )
    text = str(error.args[-1]) if error.args else ""
    error.args = (*error.args[:-1], f"{text.rstrip().rstrip('.')}. {advice}")
