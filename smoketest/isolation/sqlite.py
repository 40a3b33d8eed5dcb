"""SQLite: an authorizer, a busy time-out, and foreign keys checked where something was written."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import cache, wraps
from typing import Any
from weakref import WeakSet

from django.db import IntegrityError

from smoketest.isolation.vendor import (
    Attempt,
    Guarded,
    Limits,
    Vendor,
    ask_before_close,
    driver_error,
    execute,
    explain_lock,
    refuse_methods,
)

#: Seconds. An interrupt between two statements has no effect, so it is repeated.
_INTERRUPT_EVERY = 0.05

_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})

#: What no rollback undoes: another file, or another way to begin and end transactions.
_ENDINGS = {
    sqlite3.SQLITE_TRANSACTION: "",
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
}

#: Settings of the connection that hold the limits of a test.
_LIMITING_PRAGMAS = frozenset({"busy_timeout", "journal_mode", "locking_mode", "query_only"})
_ASSIGNMENT = re.compile("[=(]")


class _Connection(sqlite3.Connection):
    """Knows its cursors, and lets another thread wait until none of them is at work.

    A cursor that somebody keeps in mid-result would keep a lock of the database as well. And two
    threads in SQLite at a time could wait for each other for ever: SQLite holds the connection's
    mutex while it calls the authorizer, which needs the interpreter lock, while the sqlite3 module
    holds the interpreter lock in some calls that need the mutex.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self.at_work = threading.RLock()
        #: Around each statement of the code under test.
        self.statement: Callable[[Any], AbstractContextManager[None]] = nullcontext

    def cursor(self, factory: Any = None) -> Any:
        with self.at_work:
            cursor = super().cursor(_cursor_class(factory or sqlite3.Cursor))
            self.cursors.add(cursor)
        return cursor

    # The originals make cursors past `cursor`.

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor().executescript(*args)


@cache
def _cursor_class(factory: type[sqlite3.Cursor]) -> type[sqlite3.Cursor]:
    """The cursor class with each call of SQLite marked as work."""

    def at_work(name: str) -> Callable[..., Any]:
        original = getattr(factory, name)

        @wraps(original)
        def method(self: sqlite3.Cursor, *args: Any, **kwargs: Any) -> Any:
            connection: Any = self.connection
            with connection.at_work:
                return original(self, *args, **kwargs)

        return method

    def statement(name: str) -> Callable[..., Any]:
        original = at_work(name)

        @wraps(original)
        def method(self: sqlite3.Cursor, sql: str, *args: Any) -> Any:
            connection: Any = self.connection
            with connection.statement(sql):
                return original(self, sql, *args)

        return method

    def executescript(self: sqlite3.Cursor, script: str) -> Any:
        connection: Any = self.connection
        with connection.statement(f"COMMIT; {script}"), connection.at_work:  # the driver's order
            return factory.executescript(self, script)

    methods = {name: at_work(name) for name in _FETCHES}
    methods |= {name: statement(name) for name in ("execute", "executemany")}
    return type(factory.__name__, (factory,), {**methods, "executescript": executescript})


_FETCHES = ("__next__", "close", "fetchall", "fetchmany", "fetchone")


class SQLite(Vendor):
    # There is one writer at a time for each file. A single queue for all files, since two tests
    # that use two of them in opposite order would wait for each other.
    takes_turns = True

    def __init__(self) -> None:
        super().__init__()
        self._written: set[str] = set()
        #: Rows whose foreign keys lead nowhere, at the end of the test.
        self._violations: set[Any] = set()
        #: Whether the code under test may use the connection.
        self._is_open = False
        #: What `_limit` has set on this connection.
        self._limits: tuple[int, int] | None = None
        #: Which table refers to which, as of a version of the schema.
        self._references: tuple[int, list[tuple[str, str]]] | None = None

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        private = super().private_settings(settings)
        options = private["OPTIONS"]
        # A smoke test that only reads must not take the write lock that "IMMEDIATE" takes.
        options.pop("transaction_mode", None)
        # A statement from the cache would bypass the authorizer.
        options["cached_statements"] = 0
        options["factory"] = _Connection
        return private

    def opened(self, connection: Guarded) -> None:
        """Let the authorizer see each statement, those of raw cursors too, before it runs."""
        self._limits = self._references = None

        def authorize(action: int, name: str | None, value: str | None, *_: str | None) -> int:
            if self.is_trusted:
                return sqlite3.SQLITE_OK
            is_limit = action == sqlite3.SQLITE_PRAGMA and name in _LIMITING_PRAGMAS
            if action in _ENDINGS or (is_limit and value is not None):
                connection.refuse(_ENDINGS.get(action) or name or "")  # not seen in the text
                return sqlite3.SQLITE_DENY
            if not self._is_open:
                return sqlite3.SQLITE_DENY
            if action in _WRITES:
                self._written.add(name or "")
            return sqlite3.SQLITE_OK

        driver = connection.connection
        driver.set_authorizer(authorize)
        driver.statement = connection.statement
        ask_before_close(connection)
        refuse_methods(connection, lambda: self.is_trusted, "commit", "rollback")

    def begin(self, connection: Guarded, marker: str, limits: Limits) -> None:
        super().begin(connection, marker, limits)
        self._limit(connection, limits)
        self._is_open = True

    def rollback(self, connection: Guarded, marker: str, outer: Limits | None) -> None:
        super().rollback(connection, marker, outer)
        if outer is not None:
            self._limit(connection, outer)

    def is_marker_gone(self, error: Exception) -> bool:
        return "no such savepoint" in str(error)

    def is_refused(self, words: tuple[str, ...], sql: str) -> bool:
        if words[0] == "PRAGMA":
            is_limit = not _LIMITING_PRAGMAS.isdisjoint(word.lower() for word in words[1:])
            return is_limit and _ASSIGNMENT.search(sql) is not None
        return words[0] in {"ATTACH", "DETACH"} or super().is_refused(words, sql)

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        return words[0] == "PRAGMA"

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        code = getattr(driver_error(error), "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_BUSY and attempt.has_waited:
            explain_lock(error, attempt.limits, [])
        elif code == sqlite3.SQLITE_BUSY_SNAPSHOT:
            why = (
                "Somebody has written since this transaction began to read, and on SQLite it may"
                " not write any more then. Let the test write before it reads."
            )
            error.args = (f"{error}. {why}",)

    def ended(self, connection: Guarded) -> None:
        self._is_open = False
        self._written.clear()
        _close_cursors(connection.connection)

    def check_constraints(self, connection: Guarded) -> None:
        """SQLite can only look at whole tables, so it looks at those that may have changed."""
        self._violations = self._find_violations(connection, self._written)
        if self._violations:
            with suppress(AttributeError):  # Django cannot name a row without a primary key
                connection.check_constraints(sorted({table for table, *_ in self._violations}))
            table, row, parent, _ = min(self._violations, key=repr)
            msg = f"Row {row} of {table!r} has a foreign key to {parent!r} that leads nowhere."
            raise IntegrityError(msg)

    def is_new_violation(self, connection: Guarded) -> bool:
        before = self._find_violations(connection, {table for table, *_ in self._violations})
        return not self._violations <= before

    def kill(self, connection: Guarded) -> None:
        """Never closes: that can crash a process in whose other thread a statement runs."""
        self._is_open = False
        driver_connection = connection.connection
        if isinstance(driver_connection, _Connection):
            while not driver_connection.at_work.acquire(timeout=_INTERRUPT_EVERY):
                driver_connection.interrupt()
            try:
                with self.trusted(), suppress(sqlite3.Error):
                    _close_cursors(driver_connection)
                    driver_connection.rollback()
            finally:
                driver_connection.at_work.release()

    def _limit(self, connection: Guarded, limits: Limits) -> None:
        wanted = (round(limits.lock * 1000), int(limits.read_only))
        if wanted != self._limits:  # no transaction ends them, and the code under test cannot
            execute(connection, f"PRAGMA busy_timeout = {wanted[0]}")
            execute(connection, f"PRAGMA query_only = {wanted[1]}")
            self._limits = wanted

    def _find_violations(self, connection: Guarded, changed: Collection[str]) -> set[Any]:
        """Foreign keys that lead nowhere, of the tables and of those that refer to them.

        Each with its table, row, the table that it refers to, and its number:
        https://www.sqlite.org/pragma.html#pragma_foreign_key_check
        """
        if not changed:
            return set()
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            tables = {
                referring
                for referring, referred in self._references_now(cursor)
                if referring in changed or referred in changed
            }
            return {
                violation
                for table in tables
                for violation in cursor.execute(
                    f"PRAGMA foreign_key_check({connection.ops.quote_name(table)})"
                ).fetchall()
            }

    def _references_now(self, cursor: Any) -> list[tuple[str, str]]:
        (version,) = cursor.execute("PRAGMA schema_version").fetchone()
        if self._references is not None and self._references[0] == version:
            return self._references[1]
        rows: list[tuple[str, str]] = cursor.execute(
            'SELECT m.name, k."table" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
            " WHERE m.type = 'table'"
        ).fetchall()
        # A version that the test itself has made is undone with it, and may be another one's next.
        self._references = None if "sqlite_master" in self._written else (version, rows)
        return rows


def _close_cursors(driver_connection: Any) -> None:
    """One in mid-result would keep the database locked after the rollback."""
    for cursor in list(getattr(driver_connection, "cursors", ())):
        with suppress(sqlite3.Error):
            cursor.close()
