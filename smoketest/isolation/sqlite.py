"""SQLite: an authorizer, a busy timeout, and foreign key checks of the changed tables."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache, wraps
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from django.db import IntegrityError
from django.db.transaction import Atomic

from smoketest.isolation.statements import leading_words
from smoketest.isolation.vendor import (
    Attempt,
    Guarded,
    Limits,
    Vendor,
    check_before_close,
    driver_error,
    execute,
    explain_lock,
    refuse_methods,
)

#: Seconds between interrupts, which have no effect between two statements.
_INTERRUPT_INTERVAL = 0.05

_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})

#: Statements that cannot write, by their first word.
_READS = frozenset({"EXPLAIN", "SELECT", "VALUES"})
#: Words of statements that write, also after common table expressions.
_WRITING = re.compile(r"\b(?:DELETE|INSERT|REPLACE|UPDATE)\b", re.IGNORECASE)
#: PRAGMA statements that describe the schema, as Django's introspection does.
_READING_PRAGMAS = frozenset({
    "FOREIGN_KEY_CHECK", "FOREIGN_KEY_LIST", "INDEX_INFO", "INDEX_LIST", "INDEX_XINFO",
    "TABLE_INFO", "TABLE_LIST", "TABLE_XINFO",
})  # fmt: skip

#: Actions that a rollback does not undo, with the name for messages. Transaction statements are
#: empty here, because the authorizer reports which one it is.
_REFUSED_ACTIONS = {
    sqlite3.SQLITE_TRANSACTION: "",
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
}

#: Settings that contain the limits of a test.
_LIMITING_PRAGMAS = frozenset({"busy_timeout", "journal_mode", "locking_mode", "query_only"})
_ASSIGNMENT = re.compile("[=(]")


class _Connection(sqlite3.Connection):
    """A connection that tracks its cursors, and a lock that is held during calls of SQLite.

    A cursor with unread rows keeps a lock of the database, so cursors must be closed before the
    rollback. Calls of SQLite from two threads could deadlock: SQLite holds the connection's mutex
    while it calls the authorizer, which needs the interpreter lock; and the sqlite3 module holds
    the interpreter lock in some calls that need the mutex.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self.call_lock = threading.RLock()
        #: Context manager that checks a statement of the code under test.
        self.statement: Callable[[Any], AbstractContextManager[None]] = nullcontext
        #: Called when the code under test takes this connection from a cursor.
        self.on_access: Callable[[], object] = lambda: None

    def cursor(self, factory: Any = None) -> Any:
        with self.call_lock:
            cursor = super().cursor(_cursor_class(factory or sqlite3.Cursor))
            self.cursors.add(cursor)
        return cursor

    # The original methods do not call `cursor`.

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor().executescript(*args)


@cache
def _cursor_class(factory: type[sqlite3.Cursor]) -> type[sqlite3.Cursor]:
    """Return a subclass of the cursor class that holds `call_lock` in each call of SQLite."""

    def locked(name: str) -> Callable[..., Any]:
        original = getattr(factory, name)

        @wraps(original)
        def method(self: sqlite3.Cursor, *args: Any, **kwargs: Any) -> Any:
            connection: Any = _OWNER(self)
            with connection.call_lock:
                return original(self, *args, **kwargs)

        return method

    def statement(name: str) -> Callable[..., Any]:
        original = locked(name)

        @wraps(original)
        def method(self: sqlite3.Cursor, sql: str, *args: Any) -> Any:
            connection: Any = _OWNER(self)
            with connection.statement(sql):
                return original(self, sql, *args)

        return method

    def executescript(self: sqlite3.Cursor, script: str) -> Any:
        connection: Any = _OWNER(self)
        # The driver commits before it executes the script.
        with connection.statement(f"COMMIT; {script}"), connection.call_lock:
            return factory.executescript(self, script)

    def driver(self: sqlite3.Cursor) -> Any:
        connection: Any = _OWNER(self)
        connection.on_access()
        return connection

    methods: dict[str, Any] = {name: locked(name) for name in _FETCHES}
    methods |= {name: statement(name) for name in ("execute", "executemany")}
    methods |= {"executescript": executescript, "connection": property(driver)}
    return type(factory.__name__, (factory,), methods)


#: The connection of a cursor, without `on_access`.
_OWNER = sqlite3.Cursor.connection.__get__
_FETCHES = ("__next__", "close", "fetchall", "fetchmany", "fetchone")


class SQLite(Vendor):
    # In the journal mode "delete", a transaction that has read blocks all writers.
    reads_in_autocommit = True
    driver_settings = ("row_factory", "text_factory")
    sequence_setter = re.compile(
        r"""\b(INTO|UPDATE|UPDATE\s+OR\s+\w+|DELETE\s+FROM)\s+
        (["`[]?MAIN["`\]]?\s*\.\s*)? ["`[]?SQLITE_SEQUENCE\b""",
        re.VERBOSE,
    )

    def __init__(self) -> None:
        super().__init__()
        self._written: set[str] = set()
        #: Foreign key violations at the end of the test.
        self._violations: set[Any] = set()
        #: Whether the code under test may use the connection.
        self._is_open = False
        #: Lock timeout in milliseconds and read-only flag, as last set on this connection.
        self._limits: tuple[int, int] | None = None
        #: Schema version, and pairs of referring and referenced table.
        self._references: tuple[int, list[tuple[str, str]]] | None = None

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        private = super().private_settings(settings)
        options = private["OPTIONS"]
        # A test that only reads must not take the write lock, as "IMMEDIATE" would.
        options.pop("transaction_mode", None)
        # With ``autocommit=True``, the methods commit() and rollback() do nothing (Python 3.12).
        options.pop("autocommit", None)
        # A statement from the cache would bypass the authorizer.
        options["cached_statements"] = 0
        options["factory"] = _Connection
        return private

    def slot(self, database: str) -> str:
        # SQLite allows one writer per file.
        path = unquote(urlsplit(database).path) if database.startswith("file:") else database
        return os.path.realpath(path)

    @contextmanager
    def restrict_receivers(self, connection: Guarded, transaction: Atomic) -> Iterator[None]:
        # Not in a transaction, where several PRAGMA statements have no effect.
        execute(connection, "PRAGMA query_only = 1")
        yield

    def opened(self, connection: Guarded) -> None:
        """Install the authorizer, which also sees statements of the driver's own cursors."""
        self._limits = self._references = None

        def authorize(action: int, name: str | None, value: str | None, *_: str | None) -> int:
            if self.is_trusted:
                return sqlite3.SQLITE_OK
            is_limit = action == sqlite3.SQLITE_PRAGMA and name in _LIMITING_PRAGMAS
            if action in _REFUSED_ACTIONS or (is_limit and value is not None):
                # A statement that was not recognized by its text.
                connection.refuse(_REFUSED_ACTIONS.get(action) or name or "")
                return sqlite3.SQLITE_DENY
            if not self._is_open:
                return sqlite3.SQLITE_DENY
            if action in _WRITES:
                self._written.add(name or "")
            return sqlite3.SQLITE_OK

        # Writing changed pages before the commit, which never comes, would lock out all readers.
        execute(connection, "PRAGMA cache_spill = OFF")
        driver = connection.connection
        driver.set_authorizer(authorize)
        driver.statement = connection.statement
        driver.on_access = lambda: connection.connection
        check_before_close(connection)
        refuse_methods(connection, lambda: self.is_trusted, "commit", "rollback")

    def exposed(self, connection: Guarded) -> None:
        # While a transaction reads, SQLite refuses to overwrite the database with a backup.
        execute(connection, "SELECT 1 FROM sqlite_master")

    def is_read(self, sql: str) -> bool:
        return all(
            words[0] in _READS
            or (words[0] == "PRAGMA" and not _READING_PRAGMAS.isdisjoint(words[1:2]))
            or (words[0] == "WITH" and _WRITING.search(sql) is None)
            for words in leading_words(sql)
        )

    def begin_reading(self, connection: Guarded, limits: Limits) -> None:
        # A write that does not look like one fails.
        self._set_limits(connection, replace(limits, read_only=True))
        self._is_open = True

    def begin(self, connection: Guarded, savepoint: str, limits: Limits) -> None:
        super().begin(connection, savepoint, limits)
        self._set_limits(connection, limits)
        self._is_open = True

    def rollback(self, connection: Guarded, savepoint: str, outer: Limits | None) -> None:
        super().rollback(connection, savepoint, outer)
        if outer is not None:
            self._set_limits(connection, outer)

    def is_savepoint_missing(self, error: Exception) -> bool:
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
                "Another connection has written since this transaction began to read, so SQLite"
                " refuses further writes. Write before reading in the test."
            )
            error.args = (f"{error}. {why}",)

    def ended(self, connection: Guarded) -> None:
        self._is_open = False
        self._written.clear()
        _close_cursors(connection.connection)

    def check_constraints(self, connection: Guarded) -> None:
        """Check the changed tables, because SQLite can only check whole tables."""
        self._violations = self._find_violations(connection, self._written)
        if self._violations:
            with suppress(AttributeError):  # raised by Django for a table without a primary key
                connection.check_constraints(sorted({table for table, *_ in self._violations}))
            table, row, parent, _ = min(self._violations, key=repr)
            msg = f"Row {row} of {table!r} has a foreign key to a missing row of {parent!r}."
            raise IntegrityError(msg)

    def is_new_violation(self, connection: Guarded) -> bool:
        before = self._find_violations(connection, {table for table, *_ in self._violations})
        return not self._violations <= before

    def kill(self, connection: Guarded) -> None:
        """Roll back without closing the connection, which can crash a thread that is using it."""
        self._is_open = False
        driver_connection = connection.connection
        if isinstance(driver_connection, _Connection):
            while not driver_connection.call_lock.acquire(timeout=_INTERRUPT_INTERVAL):
                driver_connection.interrupt()
            try:
                with self.trusted(), suppress(sqlite3.Error):
                    _close_cursors(driver_connection)
                    driver_connection.rollback()
            finally:
                driver_connection.call_lock.release()

    def _set_limits(self, connection: Guarded, limits: Limits) -> None:
        wanted = (round(limits.lock * 1000), int(limits.read_only))
        if wanted != self._limits:  # neither a rollback nor the code under test changes them
            execute(connection, f"PRAGMA busy_timeout = {wanted[0]}")
            execute(connection, f"PRAGMA query_only = {wanted[1]}")
            self._limits = wanted

    def _find_violations(self, connection: Guarded, changed: Collection[str]) -> set[Any]:
        """Return foreign key violations of the changed tables and of tables that refer to them.

        Each is a tuple of table, row id, referenced table and index of the foreign key:
        https://www.sqlite.org/pragma.html#pragma_foreign_key_check
        """
        if not changed:
            return set()
        with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
            tables = {
                referring
                for referring, referred in self._current_references(cursor)
                if referring in changed or referred in changed
            }
            return {
                violation
                for table in tables
                for violation in cursor.execute(
                    f"PRAGMA foreign_key_check({connection.ops.quote_name(table)})"
                ).fetchall()
            }

    def _current_references(self, cursor: Any) -> list[tuple[str, str]]:
        (version,) = cursor.execute("PRAGMA schema_version").fetchone()
        if self._references is not None and self._references[0] == version:
            return self._references[1]
        rows: list[tuple[str, str]] = cursor.execute(
            'SELECT m.name, k."table" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
            " WHERE m.type = 'table'"
        ).fetchall()
        # A schema version created by the test is rolled back, and its number may be used again.
        self._references = None if "sqlite_master" in self._written else (version, rows)
        return rows


def _close_cursors(driver_connection: Any) -> None:
    """Close cursors, because one with unread rows keeps the database locked after a rollback."""
    for cursor in list(getattr(driver_connection, "cursors", ())):
        with suppress(sqlite3.Error):
            cursor.close()
