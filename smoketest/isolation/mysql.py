"""MariaDB and MySQL: limits are session variables of the private connection."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import wraps
from typing import Any

from django.db.transaction import Atomic

from smoketest.isolation.statements import MYSQL, ends_transaction
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

#: https://mariadb.com/kb/en/mariadb-error-code-reference/
_LOCK_TIMEOUT = 1205
#: The server rolled back the whole transaction because of a deadlock or a changed row.
_ROLLED_BACK_ERRORS = frozenset({1020, 1213})
_NO_SAVEPOINT = 1305

#: Statements that execute other statements, which cannot be inspected.
_OPAQUE = frozenset({"EXECUTE", "PREPARE"})
_SET_STATEMENT = re.compile(r"\bset\s+statement\b.*?\bfor\s+(\w+)", re.IGNORECASE | re.DOTALL)

#: Connect timeout, in seconds, of the connection that finds lock holders or executes KILL.
_ADMIN_TIMEOUT = 1
#: Packages of mysqlclient and PyMySQL.
_DRIVERS = ("MySQLdb", "pymysql")
#: Parameters of PyMySQL, which keeps each in an attribute with the same name.
_IO_TIMEOUTS = ("read_timeout", "write_timeout")
#: Seconds added to the server's statement limit, so that it takes effect after the KILL. If both
#: coincide, MariaDB waits for up to two seconds and keeps all locks meanwhile
#: (`THD::awake_no_mutex`, https://github.com/MariaDB/server).
_STATEMENT_MARGIN = 0.25

#: Statements with an implicit commit: https://mariadb.com/kb/en/sql-statements-that-
#: cause-an-implicit-commit/ and https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html
_COMMITTING = frozenset({
    "ALTER", "BACKUP", "CACHE", "CHANGE", "CHECK", "CREATE", "DROP", "FLUSH", "GRANT", "IMPORT",
    "INSTALL", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "SHUTDOWN", "START",
    "STOP", "TRUNCATE", "UNINSTALL", "UNLOCK", "XA",
})  # fmt: skip
_COMMITTING_ANALYZE = frozenset({"TABLE", "LOCAL", "NO_WRITE_TO_BINLOG"})
_COMMITTING_SET = frozenset({"PASSWORD", "DEFAULT"})
#: Settings that would end the transaction, or make a read-only transaction writable.
_REFUSED_SETTINGS = re.compile(
    r"\b(autocommit|read\s+write|(tx|transaction)_read_only|global|persist(_only)?)\b",
    re.IGNORECASE,
)

_READS = frozenset({
    "ANALYZE", "DESC", "DESCRIBE", "DO", "EXPLAIN", "HELP", "RELEASE", "ROLLBACK", "SAVEPOINT",
    "SELECT", "SET", "SHOW", "TABLE", "USE", "VALUES", "WITH",
})  # fmt: skip

#: Statements without effects on the session after a rollback.
_ROLLED_BACK = (_READS - {"SET", "USE"}) | {"DELETE", "INSERT", "REPLACE", "UPDATE"}
#: Session locks and session variables.
_SESSION = re.compile(r"\bget_lock\b|:=", re.IGNORECASE)

#: Clients in a transaction that holds locks; the server does not report the locked tables.
_HOLDERS = """
    SELECT t.trx_mysql_thread_id, p.user, p.host, TIMESTAMPDIFF(SECOND, t.trx_started, NOW())
    FROM information_schema.innodb_trx t
    LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
    WHERE t.trx_mysql_thread_id NOT IN (0, CONNECTION_ID(), %s)
      AND (t.trx_rows_locked > 0 OR t.trx_tables_locked > 0)
    ORDER BY t.trx_started LIMIT 3
"""


class MySQLStatements(Vendor):
    """Recognition of statements, for a backend with any driver."""

    dialect = MYSQL
    sequence_setter = re.compile(r"\bSETVAL\s*\(")  # ALTER commits and is refused anyway

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

    def outlives_transaction(self, words: tuple[str, ...], sql: str) -> bool:
        sets_variable = "@" in sql and "INTO" in sql.upper()  # SELECT ... INTO @variable
        return words[0] not in _ROLLED_BACK or sets_variable or _SESSION.search(sql) is not None


class MySQL(MySQLStatements):
    driver_settings = ("cursorclass", "decoders", "encoders", "use_unicode")

    def __init__(self) -> None:
        super().__init__()
        self._thread_id = 0
        #: Timeouts of the site for an open connection of PyMySQL.
        self._io_timeouts: dict[str, float | None] = {}
        #: Identity of the server: behind a load balancer, thread ids are not unique.
        self._server: object = None
        #: Whether the open transaction began as read-only, which cannot change later.
        self._is_read_only: bool | None = None

    def connection_params(self, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        own = int(params.get("connect_timeout") or 0)
        ours = math.ceil(timeout)
        timeout = min(own, ours) if own > 0 else ours
        params = {**params, "connect_timeout": timeout}
        if _is_pymysql():  # its connect timeout ends before the server has said anything
            self._io_timeouts = {name: params.get(name) for name in _IO_TIMEOUTS}
            params |= dict.fromkeys(_IO_TIMEOUTS, timeout)
        return params

    @contextmanager
    def restrict_receivers(self, connection: Guarded, transaction: Atomic) -> Iterator[None]:
        execute(connection, f"SET SESSION {_read_only_variable(connection)} = 1")
        yield

    def opened(self, connection: Guarded) -> None:
        driver = connection.connection
        for name, seconds in self._io_timeouts.items():
            setattr(driver, f"_{name}", seconds)
        self._thread_id = driver.thread_id()
        refuse_methods(
            connection,
            lambda: self.is_trusted,
            *("autocommit", "begin", "change_user", "commit", "kill", "rollback", "shutdown"),
        )
        self._server = _identity(driver)
        check_before_close(connection)
        # All cursors of mysqlclient and PyMySQL call this method.
        driver.query = _guarded_query(driver.query, connection)
        driver.cursorclass = _guarded_cursor(driver.cursorclass, connection)
        descriptor = getattr(driver, "_sock", driver).fileno()
        self.keep_socket(descriptor)

    def begin(self, connection: Guarded, savepoint: str, limits: Limits) -> None:
        self._set_limits(connection, limits)  # before the savepoint begins the transaction
        if self._is_read_only is None:
            self._is_read_only = limits.read_only
        super().begin(connection, savepoint, limits)

    def rollback(self, connection: Guarded, savepoint: str, outer: Limits | None) -> None:
        super().rollback(connection, savepoint, outer)
        if outer is not None:
            self._set_limits(connection, outer)

    def ended(self, connection: Guarded) -> None:
        self._is_read_only = None

    def is_write(self, words: tuple[str, ...]) -> bool:
        return not self._is_read_only and words[0] not in _READS

    def is_savepoint_missing(self, error: Exception) -> bool:
        return _code(error) == _NO_SAVEPOINT

    def failed(self, connection: Guarded, error: Exception, attempt: Attempt) -> None:
        if _code(error) == _LOCK_TIMEOUT:
            if attempt.has_waited:
                explain_lock(error, attempt.limits, self._holders(connection))
            if self._is_rolled_back_on_timeout(connection):
                connection.recreate_savepoints()
        elif _code(error) in _ROLLED_BACK_ERRORS:
            connection.recreate_savepoints()

    def kill(self, connection: Guarded) -> None:
        try:
            with (
                connection.second_connection(_ADMIN_TIMEOUT) as other,
                closing(other.cursor()) as cursor,
            ):
                if _identity(other) == self._server:
                    cursor.execute(f"KILL CONNECTION {self._thread_id}")
        finally:
            self.shut_down_socket()

    def _set_limits(self, connection: Guarded, limits: Limits) -> None:
        lock = max(1, math.ceil(limits.lock))  # the server accepts whole seconds, at least 1
        statement = limits.statement + _STATEMENT_MARGIN
        idle = 0 if math.isinf(limits.idle) else math.ceil(limits.idle)
        variables: dict[str, object] = {
            "lock_wait_timeout": lock,
            "innodb_lock_wait_timeout": lock,
            _read_only_variable(connection): int(limits.read_only),
        }
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            variables |= {
                "max_statement_time": f"{statement:.3f}",
                "idle_transaction_timeout": idle,
            }
        else:  # MySQL can limit only SELECT statements, and has no idle limit
            variables["max_execution_time"] = max(1, round(statement * 1000))
        assignments = (f"SESSION {name} = {value}" for name, value in variables.items())
        execute(connection, f"SET {', '.join(assignments)}")

    def _holders(self, connection: Guarded) -> list[Holder]:
        try:
            with (
                connection.second_connection(_ADMIN_TIMEOUT) as other,
                closing(other.cursor()) as cursor,
            ):
                cursor.execute(_HOLDERS, (self._thread_id,))
                return [
                    Holder(process, user or "", f"from {host}" if host else "", float(seconds))
                    for process, user, host, seconds in cursor.fetchall()
                ]
        except Exception:  # noqa: BLE001 - the holders are optional in the message
            return []

    def _is_rolled_back_on_timeout(self, connection: Guarded) -> bool:
        with suppress(Exception), closing(connection.create_cursor()) as cursor:
            cursor.execute("SELECT @@innodb_rollback_on_timeout")
            return bool(cursor.fetchone()[0])
        return False


def _is_pymysql() -> bool:
    """Return whether Django's driver is PyMySQL, which sites install as mysqlclient."""
    return getattr(sys.modules.get("MySQLdb"), "__name__", "") == "pymysql"


def _read_only_variable(connection: Guarded) -> str:
    is_mariadb = connection.mysql_is_mariadb  # type: ignore[attr-defined]
    return "tx_read_only" if is_mariadb else "transaction_read_only"


def _identity(driver: Any) -> object:
    """Return values that identify a server among others behind the same address."""
    with closing(driver.cursor()) as cursor:
        cursor.execute("SELECT @@hostname, @@port, @@server_id, @@datadir")
        return tuple(cursor.fetchone())


def _guarded_query(original: Callable[..., Any], connection: Guarded) -> Callable[..., Any]:
    @wraps(original)
    def query(sql: Any, *args: Any, **kwargs: Any) -> Any:
        with connection.statement(sql):
            return original(sql, *args, **kwargs)

    return query


def _guarded_cursor(factory: type[Any], connection: Guarded) -> type[Any]:
    """Return a subclass of the driver's cursor class."""
    driver = driver_of_cursor(connection, _DRIVERS, lambda self: vars(self)["connection"])
    # Both drivers assign None when they close a cursor.
    driver = driver.setter(lambda self, value: vars(self).update(connection=value))
    return type(factory.__name__, (factory,), {"connection": driver})


def _code(error: Exception) -> object:
    cause = driver_error(error)
    return cause.args[0] if cause.args else None
