"""Databases on which the fault table runs, and the view of production on them."""

# ruff: noqa: S608 - no statement contains external text

from __future__ import annotations

import socket
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from django.db import connections

from tests.ledger.models import Account, Entry
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import free_port

#: Initial rows of the site's tables.
_ROWS = (
    "INSERT INTO ledger_account (id, name) VALUES (1, 'the site''s'), (2, 'another')",
    "INSERT INTO ledger_entry (id, account_id, amount) VALUES (1, 1, 10), (2, 2, 20)",
)

Fingerprint = dict[str, object]


@contextmanager
def site(databases: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Replace the site's databases during the context."""
    before = connections.settings
    _forget_connections()
    connections.settings = connections.configure_settings(
        {alias: dict(settings) for alias, settings in databases.items()}
    )
    try:
        yield
    finally:
        _forget_connections()
        connections.settings = before


def _forget_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]


class Backend(ABC):
    """Databases of a vendor: ``default`` and ``other``, with tables and rows of the site.

    Each site also has aliases that do not work: ``down`` refuses connections and, on servers,
    ``silent`` accepts connections and never responds.
    """

    #: Name in Django.
    vendor: str
    title: str
    aliases = ("default", "other")
    #: Whether resources held by smoke tests can be distinguished from those of production.
    distinguishes_production = True
    #: Whether it is SQLite with a write-ahead log.
    has_wal = False
    #: Seconds between two queries for held resources.
    poll_interval = 0.02

    def __init__(self) -> None:
        #: Name of the lock holder, production, in the database.
        self.holder = ""
        self._closed_port = free_port()
        self._silent = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._silent.close()

    @abstractmethod
    def databases(self) -> dict[str, dict[str, Any]]:
        """Return the site's DATABASES."""

    @abstractmethod
    def connect(self, alias: str = "default", *, patience: float = 0) -> Any:
        """Return a driver connection for production, in autocommit mode until BEGIN.

        The lock timeout is the default of the database, or `patience` seconds on SQLite.
        """

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Return all objects and rows that a test could have changed."""

    @abstractmethod
    def held_resources(self) -> list[object]:
        """Return the connections, transactions and locks of smoke tests."""

    @property
    def lock_row(self) -> str:
        """Return a statement that locks the site's first account in a transaction."""
        return "UPDATE ledger_account SET name = name WHERE id = 1"

    def create_tables(self) -> None:
        """Create the tables and rows of both databases."""
        with site(self.databases()):
            for alias in self.aliases:
                with connections[alias].schema_editor() as editor:
                    editor.create_model(Account)
                    editor.create_model(Entry)
                with connections[alias].cursor() as cursor:
                    for statement in (*_ROWS, *self.objects()):
                        cursor.execute(statement)
        self.initial_state = self.fingerprint()

    @abstractmethod
    def clear(self) -> None:
        """Remove everything from both databases."""

    def restore(self) -> None:
        """Restore the initial state after changes that cannot be undone."""
        self.clear()
        self.create_tables()

    @contextmanager
    def restore_on_error(self) -> Iterator[None]:
        """Restore the initial state if the body raises, so that later tests are not affected."""
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def objects(self) -> tuple[str, ...]:
        """Return statements that create the additional objects of this vendor."""
        return ()

    @contextmanager
    def production(
        self, *statements: str, alias: str = "default", begin: str | None = None
    ) -> Iterator[Any]:
        """Open a production transaction that has executed the statements."""
        with closing(self.connect(alias)) as connection:
            cursor = connection.cursor()
            self.holder = self.connection_id(connection)
            for statement in (self.begin if begin is None else begin, *statements):
                if statement:
                    cursor.execute(statement)
            try:
                yield connection
            finally:
                with suppress(Exception):
                    cursor.execute("ROLLBACK")

    begin = "BEGIN"

    def close_silent_connections(self) -> None:
        """Close the connections of clients that wait for the silent server."""
        self._silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._silent.accept()[0].close()

    def connection_id(self, connection: Any) -> str:
        """Return the id of the connection in the database, if any."""
        return ""

    def execute(self, statement: str, alias: str = "default") -> list[Any]:
        """Execute a statement without Django, in autocommit mode."""
        with closing(self.connect(alias)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


class SQLiteBackend(Backend):
    vendor = "sqlite"
    title = "SQLite"
    distinguishes_production = False

    def __init__(self, journal_mode: str = "delete") -> None:
        super().__init__()
        self._journal_mode = journal_mode
        self.has_wal = journal_mode == "wal"
        self.title = f"SQLite, journal mode {journal_mode}"
        self._temporary = tempfile.TemporaryDirectory(prefix="smoketest-faults-")
        self.folder = Path(self._temporary.name)
        self.create_tables()

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._temporary.cleanup()

    def databases(self) -> dict[str, dict[str, Any]]:
        def database(path: Path) -> dict[str, Any]:
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}

        return {alias: database(self.path(alias)) for alias in self.aliases} | {
            "down": database(self.folder / "missing" / "down.sqlite3")
        }

    def objects(self) -> tuple[str, ...]:
        return (f"PRAGMA journal_mode = {self._journal_mode}",)

    def path(self, alias: str) -> Path:
        return self.folder / f"{alias}.sqlite3"

    def connect(self, alias: str = "default", *, patience: float = 0) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path(alias), isolation_level=None, timeout=patience, check_same_thread=False
        )

    def fingerprint(self) -> Fingerprint:
        # Beside the database there may be a log and its index.
        files = {
            path.name.removesuffix("-wal").removesuffix("-shm") for path in self.folder.iterdir()
        }
        found: dict[str, object] = {"files": sorted(files)}
        for alias in self.aliases:
            with closing(self.connect(alias)) as connection:
                found[alias] = list(connection.iterdump())
                found[f"{alias} version"] = connection.execute("PRAGMA user_version").fetchall()
        return found

    def held_resources(self) -> list[object]:
        locked: list[object] = []
        for alias in self.aliases:
            with closing(self.connect(alias)) as connection:
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError as error:
                    locked.append((alias, str(error)))
        return locked


class ServerBackend(Backend):
    """Backend on a server, with permanent connections for observation."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.server = server
        self._observers: dict[str, Any] = {}
        # A server must be started by a thread that outlives it, unlike the threads of tests.
        self._server_thread = ThreadPoolExecutor(1)

    def __exit__(self, *_: object) -> None:
        self.close_observers()
        self._server_thread.submit(self.server.close).result()
        self._server_thread.shutdown()
        super().__exit__()

    def close_observers(self) -> None:
        """Close the connections for observation, before the server stops."""
        for observer in self._observers.values():
            with suppress(Exception):
                observer.close()
        self._observers.clear()

    @abstractmethod
    def waiting_statements(self) -> list[Any]:
        """Return the statements of production that wait for a lock."""

    def cancel(self, connection_id: str) -> None:
        """Cancel the statement that a connection of production is executing."""
        self.observe(self.cancel_statement.format(connection_id))

    #: Statement that cancels the statement of a connection.
    cancel_statement: str

    def restart(self) -> None:
        """Restart the server."""
        self.close_observers()
        self._server_thread.submit(self.server.restart).result()

    def observe(self, statement: str, alias: str = "default") -> list[Any]:
        """Return the rows of a query, using a permanent connection."""
        if alias not in self._observers:
            self._observers[alias] = self.connect(alias)
        with self._observers[alias].cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def databases(self) -> dict[str, dict[str, Any]]:
        default = self.server.django()
        return {
            "default": default,
            "other": {**default, "NAME": "other"},
            "twin": self.server.django(),
            "down": {**default, "PORT": str(self._closed_port)},
            "silent": {**default, "PORT": str(self._silent.getsockname()[1])},
        }

    def name(self, alias: str) -> str:
        """Return the name of the database on the server."""
        return str(self.databases()[alias]["NAME"])


class PostgreSQLBackend(ServerBackend):
    vendor = "postgresql"
    title = "PostgreSQL"
    server: PostgreSQL

    def __init__(self, server: PostgreSQL) -> None:
        super().__init__(server)
        server.sql("CREATE DATABASE other")
        self.create_tables()

    def clear(self) -> None:
        self.observe(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
            " application_name <> 'production' AND backend_type = 'client backend'"
        )
        for (gid,) in self.observe("SELECT gid FROM pg_prepared_xacts"):
            self.execute(f"ROLLBACK PREPARED '{gid}'")
        for alias in self.aliases:
            self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", alias)
        self.execute("DROP DATABASE IF EXISTS leftover")
        self.execute("DROP ROLE IF EXISTS leftover")

    def objects(self) -> tuple[str, ...]:
        return (
            "SELECT setval('ledger_account_id_seq', 10), setval('ledger_entry_id_seq', 10)",
            "CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$",
            """CREATE FUNCTION writing() RETURNS integer LANGUAGE sql AS
            $$ INSERT INTO ledger_account (name) VALUES ('by a function') RETURNING 1 $$""",
        )

    def connect(self, alias: str = "default", *, patience: float = 0) -> Any:
        import psycopg  # noqa: PLC0415 - the rows of SQLite run without it

        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, user=self.server.role,
            dbname=self.name(alias), application_name="production", autocommit=True,
        )  # fmt: skip

    cancel_statement = "SELECT pg_cancel_backend({})"

    def connection_id(self, connection: Any) -> str:
        return str(connection.info.backend_pid)

    def waiting_statements(self) -> list[Any]:
        return self.observe(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'production' AND"
            " wait_event_type = 'Lock'"
        )

    def fingerprint(self) -> Fingerprint:
        found: dict[str, object] = {
            "databases": self.observe("SELECT datname FROM pg_database ORDER BY 1"),
            "roles": self.observe("SELECT rolname FROM pg_roles ORDER BY 1"),
            "settings": self.observe(
                "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting"
            ),
        }
        for alias in self.aliases:
            columns = self.observe(
                "SELECT c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod)"
                " FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
                " WHERE c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN"
                " ('pg_catalog', 'information_schema', 'pg_toast')) ORDER BY c.relname, a.attnum",
                alias,
            )
            tables = sorted({name for name, kind, *_ in columns if kind in ("r", b"r")})
            found[alias] = [
                *columns,
                *self.observe(
                    "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
                    " ORDER BY 1",
                    alias,
                ),
                *(
                    (
                        table,
                        *self.observe(
                            f"SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} t",
                            alias,
                        ),
                    )
                    for table in tables
                ),
            ]
        return found

    def held_resources(self) -> list[object]:
        foreign = "application_name <> 'production' AND backend_type = 'client backend'"
        return [
            *self.observe(
                "SELECT pid, datname, state, query, (SELECT count(*) FROM pg_locks l WHERE"
                f" l.pid = a.pid) FROM pg_stat_activity a WHERE {foreign}"
            ),
            *self.observe(
                "SELECT l.pid, l.locktype, l.relation FROM pg_locks l LEFT JOIN pg_stat_activity a"
                " ON a.pid = l.pid WHERE a.pid IS NULL"
            ),
            *self.observe("SELECT gid FROM pg_prepared_xacts"),
        ]


class MariaDBBackend(ServerBackend):
    vendor = "mysql"
    title = "MariaDB"
    server: MariaDB
    begin = "START TRANSACTION"
    # The content of innodb_trx is refreshed if it has not been read for 0.1 s.
    poll_interval = 0.11

    def __init__(self, server: MariaDB) -> None:
        super().__init__(server)
        #: Connections of production and of this process.
        self._known: set[int] = set()
        server.sql("CREATE DATABASE other; INSTALL SONAME 'metadata_lock_info'")
        self.create_tables()

    def clear(self) -> None:
        for row in self.observe("SHOW PROCESSLIST"):
            if row[0] not in self._known:
                with suppress(Exception):
                    self.observe(f"KILL {row[0]}")
        for name in ("smoketest", "other"):
            self.observe(f"DROP DATABASE {name}")
            self.observe(f"CREATE DATABASE {name}")
        self.observe("UNINSTALL SONAME IF EXISTS 'disks'")
        for kind in ("DATABASE", "USER"):
            self.observe(f"DROP {kind} IF EXISTS leftover")
        self.close_observers()

    def objects(self) -> tuple[str, ...]:
        return (
            "CREATE PROCEDURE committing() BEGIN COMMIT; END",
            "CREATE TABLE ledger_myisam (id integer) ENGINE=MyISAM",
        )

    def connect(self, alias: str = "default", *, patience: float = 0) -> Any:
        connection = self.server.connect(self.name(alias))
        self._known.add(connection.thread_id())
        return connection

    cancel_statement = "KILL QUERY {}"

    def connection_id(self, connection: Any) -> str:
        return str(connection.thread_id())

    def waiting_statements(self) -> list[Any]:
        known = ", ".join(map(str, self._known))
        return self.observe(
            f"SELECT id FROM information_schema.processlist WHERE id IN ({known}) AND"
            " (state LIKE 'Waiting for%lock%' OR state = 'Updating')"
        )

    def fingerprint(self) -> Fingerprint:
        known = "('smoketest', 'other')"
        found: dict[str, object] = {
            "databases": self.observe("SHOW DATABASES"),
            "users": self.observe("SELECT user, host FROM mysql.user ORDER BY 1, 2"),
            "routines": self.observe(
                "SELECT routine_schema, routine_name FROM information_schema.routines"
                f" WHERE routine_schema IN {known} ORDER BY 1, 2"
            ),
            "columns": self.observe(
                "SELECT table_schema, table_name, column_name, column_type, column_key"
                f" FROM information_schema.columns WHERE table_schema IN {known}"
                " ORDER BY table_schema, table_name, ordinal_position"
            ),
            "indexes": self.observe(
                "SELECT table_schema, table_name, index_name, column_name FROM"
                f" information_schema.statistics WHERE table_schema IN {known} ORDER BY 1, 2, 3, 4"
            ),
        }
        tables = self.observe(
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables"
            f" WHERE table_schema IN {known} ORDER BY 1"
        )
        names = ", ".join(name for (name,) in tables)
        return found | {"rows": self.observe(f"CHECKSUM TABLE {names} EXTENDED")}

    def held_resources(self) -> list[object]:
        self.observe("SELECT 1")  # adds its connection to the known ones
        known = f"({', '.join(map(str, self._known | {0}))})"
        return [
            *self.observe(
                "SELECT id, db, command, state, info FROM information_schema.processlist"
                f" WHERE command <> 'Daemon' AND user <> 'system user' AND id NOT IN {known}"
            ),
            *self.observe(
                "SELECT trx_mysql_thread_id, trx_state, trx_query FROM"
                f" information_schema.innodb_trx WHERE trx_mysql_thread_id NOT IN {known}"
            ),
            *self.observe(
                "SELECT thread_id, lock_mode, lock_type, table_name FROM"
                f" information_schema.metadata_lock_info WHERE thread_id NOT IN {known}"
            ),
        ]
