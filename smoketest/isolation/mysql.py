"""MariaDB and MySQL: limits as session variables of the private connection."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import closing, suppress
from functools import wraps
from typing import Any

from smoketest.isolation.statements import MYSQL, ends_transaction
from smoketest.isolation.vendor import (
    Attempt,
    Guarded,
    Holder,
    Limits,
    Vendor,
    ask_before_close,
    driver_error,
    execute,
    explain_lock,
    refuse_methods,
)

#: https://mariadb.com/kb/en/mariadb-error-code-reference/
_LOCK_TIMEOUT = 1205
#: The server has rolled back the whole transaction: a deadlock, or a row that has changed since.
_ROLLED_BACK_ERRORS = frozenset({1020, 1213})
_NO_SAVEPOINT = 1305

#: Statements that hold others, which nobody can look at.
_OPAQUE = frozenset({"EXECUTE", "PREPARE"})
_SET_STATEMENT = re.compile(r"\bset\s+statement\b.*?\bfor\s+(\w+)", re.IGNORECASE | re.DOTALL)

#: Seconds for a look at who holds a lock, and for a KILL.
_PATIENCE = 1
#: Seconds by which the server's limit of a statement comes after the time-out of the test. MariaDB
#: waits for up to two seconds, and lets go of nothing, where a KILL meets a statement that is woken
#: at that very moment (`THD::awake_no_mutex`, https://github.com/MariaDB/server).
_AFTER_KILL = 0.25

#: Statements that commit, whatever they do besides: https://mariadb.com/kb/en/sql-statements-that-
#: cause-an-implicit-commit/ and https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html
_COMMITTING = frozenset({
    "ALTER", "BACKUP", "CACHE", "CHANGE", "CHECK", "CREATE", "DROP", "FLUSH", "GRANT", "IMPORT",
    "INSTALL", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "SHUTDOWN", "START",
    "STOP", "TRUNCATE", "UNINSTALL", "UNLOCK", "XA",
})  # fmt: skip
_COMMITTING_ANALYZE = frozenset({"TABLE", "LOCAL", "NO_WRITE_TO_BINLOG"})
_COMMITTING_SET = frozenset({"PASSWORD", "DEFAULT"})
#: What would end the transaction, or lift its being read-only while nothing has been read yet.
_REFUSED_SETTINGS = re.compile(
    r"\b(autocommit|read\s+write|(tx|transaction)_read_only|global|persist(_only)?)\b",
    re.IGNORECASE,
)

_READS = frozenset({
    "ANALYZE", "DESC", "DESCRIBE", "DO", "EXPLAIN", "HELP", "RELEASE", "ROLLBACK", "SAVEPOINT",
    "SELECT", "SET", "SHOW", "TABLE", "USE", "VALUES", "WITH",
})  # fmt: skip

#: After these a session is what it was before, once they are rolled back.
_ROLLED_BACK = (_READS - {"SET", "USE"}) | {"DELETE", "INSERT", "REPLACE", "UPDATE"}
#: Locks and variables that belong to the session.
_SESSION = re.compile(r"\bget_lock\b|:=", re.IGNORECASE)

#: Clients in a transaction that holds locks. The tables themselves are not told.
_HOLDERS = """
    SELECT t.trx_mysql_thread_id, p.user, p.host, TIMESTAMPDIFF(SECOND, t.trx_started, NOW())
    FROM information_schema.innodb_trx t
    LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
    WHERE t.trx_mysql_thread_id NOT IN (0, CONNECTION_ID(), %s)
      AND (t.trx_rows_locked > 0 OR t.trx_tables_locked > 0)
    ORDER BY t.trx_started LIMIT 3
"""


class MySQL(Vendor):
    dialect = MYSQL

    def __init__(self) -> None:
        super().__init__()
        self._thread_id = 0
        #: The server, since behind a load balancer another one has the same numbers.
        self._server: object = None
        #: Whether the open transaction began as a read-only one; that cannot be changed later.
        self._is_read_only: bool | None = None

    def connection_params(self, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        own = int(params.get("connect_timeout") or 0)
        ours = math.ceil(timeout)
        return {**params, "connect_timeout": min(own, ours) if own > 0 else ours}

    def opened(self, connection: Guarded) -> None:
        driver = connection.connection
        self._thread_id = driver.thread_id()
        refuse_methods(
            connection,
            lambda: self.is_trusted,
            *("autocommit", "begin", "change_user", "commit", "kill", "rollback", "shutdown"),
        )
        self._server = _identity(driver)
        ask_before_close(connection)
        # All cursors of both drivers, mysqlclient and PyMySQL, go through this method.
        driver.query = _guarded_query(driver.query, connection)
        descriptor = getattr(driver, "_sock", driver).fileno()
        self.hold_line(descriptor)

    def begin(self, connection: Guarded, marker: str, limits: Limits) -> None:
        self._limit(connection, limits)  # before the savepoint, which begins the transaction
        if self._is_read_only is None:
            self._is_read_only = limits.read_only
        super().begin(connection, marker, limits)

    def rollback(self, connection: Guarded, marker: str, outer: Limits | None) -> None:
        super().rollback(connection, marker, outer)
        if outer is not None:
            self._limit(connection, outer)

    def ended(self, connection: Guarded) -> None:
        self._is_read_only = None

    def is_marker_gone(self, error: Exception) -> bool:
        return _code(error) == _NO_SAVEPOINT

    def is_refused(self, words: tuple[str, ...], sql: str) -> bool:
        if words[0] in {"CREATE", "DROP"} and "TEMPORARY" in words[1:4]:
            return False
        if words[0] == "ANALYZE":
            return words[1:2] != () and words[1] in _COMMITTING_ANALYZE
        if words[0] == "SET":
            if words[1:2] == ("STATEMENT",):
                inner = _SET_STATEMENT.search(sql)
                return inner is not None and self.is_refused((inner[1].upper(),), "")
            is_committing = words[1:2] != () and words[1] in _COMMITTING_SET
            return is_committing or _REFUSED_SETTINGS.search(sql) is not None
        return words[0] in _COMMITTING | _OPAQUE or ends_transaction(words)

    def is_write(self, words: tuple[str, ...]) -> bool:
        return not self._is_read_only and words[0] not in _READS

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        return words[0] not in _ROLLED_BACK or _SESSION.search(sql) is not None

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        if _code(error) == _LOCK_TIMEOUT:
            if attempt.has_waited:
                explain_lock(error, attempt.limits, self._holders(connection))
            if self._is_rolled_back_on_timeout(connection):
                connection.mark_again()
        elif _code(error) in _ROLLED_BACK_ERRORS:
            connection.mark_again()

    def kill(self, connection: Guarded) -> None:
        try:
            with (
                connection.second_connection(_PATIENCE) as other,
                closing(other.cursor()) as cursor,
            ):
                if _identity(other) == self._server:
                    cursor.execute(f"KILL CONNECTION {self._thread_id}")
        finally:
            self.hang_up()

    def _limit(self, connection: Guarded, limits: Limits) -> None:
        lock = max(1, math.ceil(limits.lock))  # whole seconds, the least that the server takes
        read_only = int(limits.read_only)
        statement = limits.statement + _AFTER_KILL
        idle = 0 if math.isinf(limits.idle) else math.ceil(limits.idle)
        variables: dict[str, object] = {"lock_wait_timeout": lock, "innodb_lock_wait_timeout": lock}
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            variables |= {
                "max_statement_time": f"{statement:.3f}",
                "idle_transaction_timeout": idle,
                "tx_read_only": read_only,
            }
        else:  # MySQL limits nothing but SELECT, and no pause
            variables |= {
                "max_execution_time": max(1, round(statement * 1000)),
                "transaction_read_only": read_only,
            }
        assignments = (f"SESSION {name} = {value}" for name, value in variables.items())
        execute(connection, f"SET {', '.join(assignments)}")

    def _holders(self, connection: Guarded) -> list[Holder]:
        try:
            with (
                connection.second_connection(_PATIENCE) as other,
                closing(other.cursor()) as cursor,
            ):
                cursor.execute(_HOLDERS, (self._thread_id,))
                return [
                    Holder(process, user or "", f"from {host}" if host else "", float(seconds))
                    for process, user, host, seconds in cursor.fetchall()
                ]
        except Exception:  # noqa: BLE001 - the message is as good as the database allows
            return []

    def _is_rolled_back_on_timeout(self, connection: Guarded) -> bool:
        with self.trusted(), suppress(Exception), closing(connection.create_cursor()) as cursor:
            cursor.execute("SELECT @@innodb_rollback_on_timeout")
            return bool(cursor.fetchone()[0])
        return False


def _identity(driver: Any) -> object:
    """What tells a server from the others behind the same address."""
    with closing(driver.cursor()) as cursor:
        cursor.execute("SELECT @@hostname, @@port, @@server_id, @@datadir")
        return tuple(cursor.fetchone())


def _guarded_query(original: Callable[..., Any], connection: Guarded) -> Callable[..., Any]:
    @wraps(original)
    def query(sql: Any, *args: Any, **kwargs: Any) -> Any:
        with connection.statement(sql):
            return original(sql, *args, **kwargs)

    return query


def _code(error: Exception) -> object:
    cause = driver_error(error)
    return cause.args[0] if cause.args else None
