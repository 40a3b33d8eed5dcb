"""What every database does the same, as far as isolation is concerned."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

from django.db import DatabaseError

from smoketest.isolation.statements import STANDARD, ends_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a frame may keep the database busy, in seconds, and whether it may write."""

    statement: float
    lock: float
    #: Longest pause between two statements.
    idle: float
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A statement that failed."""

    sql: str
    limits: Limits
    #: How long it took, in seconds.
    seconds: float

    @property
    def has_waited(self) -> bool:
        """Whether it waited for a lock as long as it may; with NOWAIT it does not wait."""
        return self.seconds >= 0.9 * self.limits.lock


class Guarded(Protocol):
    """A private connection, as its vendor sees it."""

    alias: str
    connection: Any
    ops: Any
    features: Any

    @property
    def wrap_database_errors(self) -> Any: ...

    def create_cursor(self) -> Any:
        """A cursor of the driver."""

    def check_constraints(self, table_names: list[str] | None = None) -> None:
        """Raise `django.db.IntegrityError` if rows refer to others that are not there."""

    def statement(self, sql: Any) -> AbstractContextManager[None]:
        """Around each statement of the code under test."""

    def refuse(self, what: str) -> Exception:
        """Note that the test tried to end its transaction; gives the exception to raise."""

    def before_close(self) -> None:
        """Find out, before the code under test closes the connection, whether it has committed."""

    def second_connection(self, timeout: float) -> AbstractContextManager[Any]:
        """Another connection of the driver, for a moment."""

    def mark_again(self) -> None:
        """The database has rolled back the whole transaction, the markers in it included."""


class Vendor:
    """A database that is known to have transactions and savepoints, and nothing more.

    The subclasses add limits inside the database and what their database does differently. There
    is one for each private connection.
    """

    #: Whether tests that use such databases have to run one after the other.
    takes_turns = False
    #: How its SQL is read.
    dialect = STANDARD

    def __init__(self) -> None:
        #: Threads whose statements are isolation's own at this moment.
        self._trusted: set[int] = set()
        #: The socket of the connection, see `hold_line`.
        self._line: socket.socket | None = None

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

    def connection_params(self, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The driver's parameters, so that connecting does not take longer than the time-out."""
        return params

    def opened(self, connection: Guarded) -> None:
        """Called when the connection has been made, before its first transaction."""

    def is_unusable(self, connection: Guarded) -> bool:
        """Whether what the test left open keeps us from its transaction."""
        return False

    def closed(self) -> None:
        """Called when the connection has been closed."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def begin(self, connection: Guarded, marker: str, limits: Limits) -> None:
        """Make the savepoint of a frame in the open transaction, and set its limits."""
        execute(connection, connection.ops.savepoint_create_sql(marker))

    def finish(self, connection: Guarded, marker: str) -> bool:
        """Check the constraints, undo the outermost frame and end the transaction, all at once.

        Gives whether it did; where anything is amiss, it raises, and the steps are taken singly.
        """
        return False

    def rollback(self, connection: Guarded, marker: str, outer: Limits | None) -> None:
        """Undo a frame, and set the limits of the one around it again.

        Raises `django.db.Error`; see `is_marker_gone`.
        """
        execute(connection, connection.ops.savepoint_rollback_sql(marker))

    def is_marker_gone(self, error: Exception) -> bool:
        """Whether rolling back failed because the savepoint does not exist (any more)."""
        return isinstance(error, DatabaseError)

    def ended(self, connection: Guarded) -> None:
        """Called when the outermost frame is over, or the connection is about to be closed."""

    def check_constraints(self, connection: Guarded) -> None:
        """Raise `django.db.IntegrityError` if the transaction could never commit."""
        if connection.features.can_defer_constraint_checks:
            connection.check_constraints()

    def is_refused(self, words: tuple[str, ...], sql: str) -> bool:
        """Whether a statement with these leading words would end the transaction."""
        return ends_transaction(words)

    def is_write(self, words: tuple[str, ...]) -> bool:
        """Whether a read-only frame has to refuse a statement that the database would take."""
        return False

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        """Whether a statement may change what a rollback does not restore, such as a variable.

        The connection is not used again then.
        """
        return False

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        """Called when a statement of the code under test has raised; may improve the message."""

    def is_new_violation(self, connection: Guarded) -> bool:
        """Whether the rollback has undone a violation that was found: then it was the test's."""
        return True

    def kill(self, connection: Guarded) -> None:
        """Free what the connection holds in the database; called from another thread."""

    def hold_line(self, descriptor: int) -> None:
        """Keep a duplicate of the driver's socket, for `hang_up`.

        The driver may close its own at any moment, and the number then belongs to something else.
        """
        self.closed()
        self._line = socket.socket(fileno=os.dup(descriptor))

    def hang_up(self) -> None:
        """End the connection for the database, and for whoever reads from it at present."""
        if self._line is not None:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)


def execute(connection: Guarded, sql: str) -> None:
    """Run a statement of our own, past the wrappers and the log of the code under test."""
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        cursor.execute(sql)


def refuse_methods(connection: Guarded, is_trusted: Callable[[], bool], *names: str) -> None:
    """Refuse the code under test these methods of the driver's connection."""

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


def ask_before_close(connection: Guarded) -> None:
    """Have the driver's own ``close`` look first whether the test has ended its transaction."""
    close = connection.connection.close

    @wraps(close)
    def asking_close() -> None:
        connection.before_close()
        close()

    connection.connection.close = asking_close


def driver_error(error: Exception) -> Exception:
    """What the driver raised, where Django has wrapped it in an exception of its own."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


@dataclass(frozen=True, slots=True)
class Holder:
    """Another client in whose way a statement may have been."""

    process: int
    user: str
    client: str
    #: For how many seconds its transaction has been open.
    seconds: float

    def __str__(self) -> str:
        who = ", ".join(part for part in (f"user {self.user}", self.client) if part)
        return f"process {self.process} ({who}), in a transaction for {self.seconds:.0f} s"


def explain_lock(error: Exception, limits: Limits, holders: list[Holder]) -> None:
    """Say in the message of a lock time-out how long was waited, and for whom."""
    held_by = f" It is probably held by {'; or '.join(map(str, holders))}." if holders else ""
    advice = (
        f"Gave up after {limits.lock:g} s (SMOKETEST_LOCK_TIMEOUT) on a lock that another"
        f" transaction holds.{held_by}"
    )
    text = str(error.args[-1]) if error.args else ""
    error.args = (*error.args[:-1], f"{text.rstrip().rstrip('.')}. {advice}")
