"""PostgreSQL: limits are set with ``SET LOCAL`` in the same round trip as the savepoint."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import wraps
from typing import Any

from django.db.transaction import Atomic

from smoketest.isolation.statements import POSTGRESQL
from smoketest.isolation.vendor import (
    Attempt,
    Guarded,
    Holder,
    Limits,
    Vendor,
    check_before_close,
    driver_error,
    driver_of_cursor,
    execute,
    explain_lock,
    refuse_methods,
)

#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_INVALID_SAVEPOINT = "3B001"
_NO_TRANSACTION = "25P01"
_LOCK_NOT_AVAILABLE = "55P03"

#: Timeout, in seconds, for finding lock holders and for cancelling a statement.
_ADMIN_TIMEOUT = 1

#: Options of the pools of Django and of django-db-geventpool.
_POOL_OPTIONS = ("pool", "MAX_CONNS", "REUSE_CONNS")

#: Seconds until a session has ended whose statement was cancelled and whose socket was closed.
_END_WITHIN = 0.25

#: Unlike Django, without deferring them again: the rollback does that.
_CHECK_CONSTRAINTS = "SET CONSTRAINTS ALL IMMEDIATE"

#: Session locks, which a rollback does not release.
_ADVISORY = re.compile("advisory", re.IGNORECASE)
#: In the transaction of the test: after it, a pooler may use another session.
_UNLOCK = "SELECT pg_advisory_unlock_all()"

#: Statements that change a session, also if they are rolled back.
_OF_SESSION = frozenset({"DEALLOCATE", "DISCARD", "LOAD", "PREPARE"})

#: Clients that hold a lock on a table named in the statement. A lock for reading blocks only a
#: statement that changes the table definition.
_HOLDERS = """
    SELECT a.pid, a.usename, a.application_name,
           extract(epoch FROM clock_timestamp() - a.xact_start)
    FROM pg_stat_activity a
    WHERE a.pid NOT IN (pg_backend_pid(), %s) AND EXISTS (
        SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = a.pid AND l.granted AND c.relkind IN ('r', 'p', 'm')
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND strpos(%s, c.relname) > 0
          AND (l.mode <> 'AccessShareLock' OR %s)
    )
    ORDER BY a.xact_start LIMIT 3
"""


#: The backend of a session. A pooler reports another process id when it connects.
_BACKEND = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
#: A process id may be reused.
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
)


class PostgreSQL(Vendor):
    dialect = POSTGRESQL
    driver_settings = (
        *("cursor_factory", "prepare_threshold", "prepared_max", "row_factory"),
        "server_cursor_factory",
    )
    sequence_setter = re.compile(
        r'\bSETVAL"?\s*\(|\bALTER\s+SEQUENCE\b|\b(ALTER|TRUNCATE)\b[^;]*\bRESTART\b'
    )

    def __init__(self) -> None:
        super().__init__()
        #: Process id and start time of the backend; None behind a pooler.
        self._backend: tuple[int, datetime] | None = None
        #: Whether a statement may have acquired a session lock in this transaction.
        self._may_hold_session_lock = False

    def private_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        private = super().private_settings(settings)
        for name in _POOL_OPTIONS:
            private["OPTIONS"].pop(name, None)
        return private

    def connection_params(self, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        # libpq accepts whole seconds, and treats 1 as 2.
        own = int(params.get("connect_timeout") or 0)
        ours = max(2, round(timeout))
        timeout = min(own, ours) if own > 0 else ours
        # Identifies the connection in pg_stat_activity.
        return {"application_name": "smoketest", **params, "connect_timeout": timeout}

    @contextmanager
    def restrict_receivers(self, connection: Guarded, transaction: Atomic) -> Iterator[None]:
        # A rollback would undo SET, and a read-only session would outlive us behind a pooler.
        ops, savepoint = connection.ops, "smoketest_receivers"
        with transaction:
            read_only = f"SET TRANSACTION READ ONLY;{ops.savepoint_create_sql(savepoint)}"
            execute(connection, read_only)
            yield
            execute(connection, ops.savepoint_commit_sql(savepoint))  # fails after a COMMIT

    def opened(self, connection: Guarded) -> None:
        driver = connection.connection
        with suppress(AttributeError, TypeError):  # psycopg2 allows no new attributes
            check_before_close(connection)
            refuse_methods(
                connection,
                lambda: self.is_trusted,
                "commit",
                "rollback",
                "set_autocommit",
                "tpc_begin",
                "tpc_commit",
                "tpc_prepare",
                "tpc_rollback",
            )
        self.keep_socket(driver.fileno())
        with closing(driver.cursor()) as cursor:
            cursor.execute(_BACKEND)
            backend = cursor.fetchone()
        self._backend = backend if backend and backend[0] == driver.info.backend_pid else None
        for name in ("cursor_factory", "server_cursor_factory"):
            if factory := getattr(driver, name, None):  # psycopg2 has none by default
                setattr(driver, name, _guarded_cursor(factory, connection))

    def exposed(self, connection: Guarded) -> None:
        self._may_hold_session_lock = True  # its statements may not be checked

    def is_unusable(self, connection: Guarded) -> bool:
        driver = connection.connection
        lock, pgconn = getattr(driver, "lock", None), getattr(driver, "pgconn", None)
        # An open stream or COPY holds the connection's lock; in pipeline mode, statements fail.
        return bool((lock and lock.locked()) or (pgconn and pgconn.pipeline_status))

    def begin(self, connection: Guarded, savepoint: str, limits: Limits) -> None:
        # Settings made after the savepoint are rolled back with it.
        sql = (
            f"{connection.ops.savepoint_create_sql(savepoint)};"
            f"SET LOCAL statement_timeout = {_milliseconds(limits.statement)};"
            f"SET LOCAL lock_timeout = {_milliseconds(limits.lock)};"
            f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(limits.idle)}"
        )
        execute(connection, f"{sql};SET TRANSACTION READ ONLY" if limits.read_only else sql)

    def finish(self, connection: Guarded, savepoint: str) -> bool:
        undo = connection.ops.savepoint_rollback_sql(savepoint)
        if self._may_hold_session_lock:
            undo += f";{_UNLOCK}"
        execute(connection, f"{_CHECK_CONSTRAINTS};{undo};ROLLBACK")
        return True

    def rollback(self, connection: Guarded, savepoint: str, outer: Limits | None) -> None:
        super().rollback(connection, savepoint, outer)
        if outer is None and self._may_hold_session_lock:
            execute(connection, _UNLOCK)

    def ended(self, connection: Guarded) -> None:
        self._may_hold_session_lock = False

    def check_constraints(self, connection: Guarded) -> None:
        execute(connection, _CHECK_CONSTRAINTS)

    def is_savepoint_missing(self, error: Exception) -> bool:
        return _sqlstate(error) in {_INVALID_SAVEPOINT, _NO_TRANSACTION}

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        may_hold_lock = _ADVISORY.search(sql) is not None
        self._may_hold_session_lock |= may_hold_lock
        return may_hold_lock or words[0] in _OF_SESSION

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        if _sqlstate(error) == _LOCK_NOT_AVAILABLE and attempt.has_waited:
            explain_lock(error, attempt.limits, _holders(connection, attempt.sql))

    def kill(self, connection: Guarded) -> None:
        driver = connection.connection
        # The server does not notice a closed socket while it executes a statement. cancel() of
        # psycopg2 would block all threads of the process while the server does not respond.
        if hasattr(driver, "cancel_safe"):
            with suppress(Exception):
                driver.cancel_safe(timeout=_ADMIN_TIMEOUT)
        self.shut_down_socket()
        if self._backend is not None:
            self._terminate(connection, self._backend)

    def _terminate(self, connection: Guarded, backend: tuple[int, datetime]) -> None:
        """Terminate the backend if a function has caught the cancellation, or none was sent."""
        with (
            connection.second_connection(_ADMIN_TIMEOUT) as other,
            closing(other.cursor()) as cursor,
        ):
            cursor.execute("SELECT pg_sleep(%s)", (_END_WITHIN,))
            cursor.execute(_TERMINATE, backend)


_CURSOR_METHODS = ("execute", "executemany", "callproc", "copy", "copy_expert", "stream")


def _guarded_cursor(factory: type[Any], connection: Guarded) -> type[Any]:
    """Return a subclass of the driver's cursor class that checks each statement."""

    def guarded(name: str) -> Callable[..., Any]:
        original = getattr(factory, name)

        @wraps(original)
        def method(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            with connection.statement(query):
                return original(self, query, *args, **kwargs)

        return method

    methods = {name: guarded(name) for name in _CURSOR_METHODS if hasattr(factory, name)}
    driver = driver_of_cursor(connection, ("psycopg",), factory.connection.__get__)
    return type(factory.__name__, (factory,), {**methods, "connection": driver})


def _holders(connection: Guarded, sql: str) -> list[Holder]:
    changes_table = sql.lstrip()[:5].upper() not in {"SELEC", "INSER", "UPDAT", "DELET", "WITH "}
    try:
        pid = connection.connection.info.backend_pid
        with (
            connection.second_connection(_ADMIN_TIMEOUT) as other,
            closing(other.cursor()) as cursor,
        ):
            cursor.execute(f"SET statement_timeout = {_milliseconds(_ADMIN_TIMEOUT)}")
            cursor.execute(_HOLDERS, (pid, sql, changes_table))
            rows = cursor.fetchall()
    except Exception:  # noqa: BLE001 - the holders are optional in the message
        return []
    return [Holder(pid, user, name, float(seconds or 0)) for pid, user, name, seconds in rows]


def _sqlstate(error: Exception) -> str | None:
    cause = driver_error(error)
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _milliseconds(seconds: float) -> int:
    """Return `seconds` for a timeout setting: at least 1 ms, because 0 means no limit."""
    return 0 if math.isinf(seconds) else max(1, round(seconds * 1000))
