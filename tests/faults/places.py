"""The databases that the rows run on: a site's two on each kind, and what production sees."""

# ruff: noqa: S608 - no statement here has a text from outside

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

#: What the site's own tables hold before any test.
_ROWS = (
    "INSERT INTO ledger_account (id, name) VALUES (1, 'the site''s'), (2, 'another')",
    "INSERT INTO ledger_entry (id, account_id, amount) VALUES (1, 1, 10), (2, 2, 20)",
)

Fingerprint = dict[str, object]


@contextmanager
def site(databases: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """In its context, Django has these databases and no others."""
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


class Place(ABC):
    """One kind of database: aliases ``default`` and ``other`` with the site's tables and rows.

    The site has aliases that do not work as well, in every row: ``down`` refuses connections, and
    ``silent``, where there is a server to connect to, accepts them and never says a word.
    """

    #: As Django names it.
    vendor: str
    title: str
    aliases = ("default", "other")
    #: Whether it can be seen what is held while production holds something too.
    tells_apart = True
    #: Seconds between two looks at what is held.
    look_every = 0.02

    def __init__(self) -> None:
        #: Who holds the lock that production took, as the database names it.
        self.holder = ""
        self._closed_port = free_port()
        self._silent = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._silent.close()

    @abstractmethod
    def databases(self) -> dict[str, dict[str, Any]]:
        """The site's DATABASES."""

    @abstractmethod
    def connect(self, alias: str = "default", *, patience: float = 0) -> Any:
        """A driver's connection for production, each statement a transaction until BEGIN.

        It waits for locks as long as that database does by default; on SQLite `patience` seconds.
        """

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Everything that a test could have changed: what there is, and what is in it."""

    @abstractmethod
    def held(self) -> list[object]:
        """Connections, transactions and locks that are neither production's nor ours."""

    @property
    def lock_row(self) -> str:
        """Statement by which a transaction locks the site's first account."""
        return "UPDATE ledger_account SET name = name WHERE id = 1"

    def fill(self) -> None:
        """Make the tables and rows of both databases anew."""
        with site(self.databases()):
            for alias in self.aliases:
                with connections[alias].schema_editor() as editor:
                    editor.create_model(Account)
                    editor.create_model(Entry)
                with connections[alias].cursor() as cursor:
                    for statement in (*_ROWS, *self.objects()):
                        cursor.execute(statement)
        self.pristine = self.fingerprint()

    @abstractmethod
    def clear(self) -> None:
        """Make both databases empty."""

    def restore(self) -> None:
        """Put everything back after a fault that no one can undo."""
        self.clear()
        self.fill()

    @contextmanager
    def put_right(self) -> Iterator[None]:
        """What the body changed for good is its own affair, not that of the next."""
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def objects(self) -> tuple[str, ...]:
        """Statements that make what the rows of this kind of database need besides."""
        return ()

    @contextmanager
    def production(
        self, *statements: str, alias: str = "default", begin: str | None = None
    ) -> Iterator[Any]:
        """Production in the middle of a transaction in which it ran the statements."""
        with closing(self.connect(alias)) as connection:
            cursor = connection.cursor()
            self.holder = self.name_of(connection)
            for statement in (self.begin if begin is None else begin, *statements):
                if statement:
                    cursor.execute(statement)
            try:
                yield connection
            finally:
                with suppress(Exception):
                    cursor.execute("ROLLBACK")

    begin = "BEGIN"

    def hang_up(self) -> None:
        """Answer those who wait for the silent server, by ending their connections."""
        self._silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._silent.accept()[0].close()

    def name_of(self, connection: Any) -> str:
        """How the database names the connection, where it does."""
        return ""

    def execute(self, statement: str, alias: str = "default") -> list[Any]:
        """Run a statement past Django, at once and for good."""
        with closing(self.connect(alias)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


class SQLitePlace(Place):
    vendor = "sqlite"
    title = "SQLite"
    tells_apart = False

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="smoketest-faults-")
        self.folder = Path(self._temporary.name)
        self.fill()

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

    def path(self, alias: str) -> Path:
        return self.folder / f"{alias}.sqlite3"

    def connect(self, alias: str = "default", *, patience: float = 0) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path(alias), isolation_level=None, timeout=patience, check_same_thread=False
        )

    def fingerprint(self) -> Fingerprint:
        found: dict[str, object] = {"files": sorted(path.name for path in self.folder.iterdir())}
        for alias in self.aliases:
            with closing(self.connect(alias)) as connection:
                found[alias] = list(connection.iterdump())
                found[f"{alias} version"] = connection.execute("PRAGMA user_version").fetchall()
        return found

    def held(self) -> list[object]:
        locked: list[object] = []
        for alias in self.aliases:
            with closing(self.connect(alias)) as connection:
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError as error:
                    locked.append((alias, str(error)))
        return locked


class ServerPlace(Place):
    """A place on a server, over which it keeps two connections to look from."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.server = server
        self._eyes: dict[str, Any] = {}
        # What starts a server has to live as long as that; the threads of tests do not.
        self._hands = ThreadPoolExecutor(1)

    def __exit__(self, *_: object) -> None:
        self.close_eyes()
        self._hands.submit(self.server.close).result()
        self._hands.shutdown()
        super().__exit__()

    def close_eyes(self) -> None:
        """For when the server is about to go."""
        for eye in self._eyes.values():
            with suppress(Exception):
                eye.close()
        self._eyes.clear()

    @abstractmethod
    def waiting(self) -> list[Any]:
        """The statements of production that wait for a lock."""

    def cancel(self, connection: Any) -> None:
        """End the statement that a connection of production runs."""
        self.look(self.cancelling.format(self.name_of(connection)))

    #: Statement that ends that of a connection.
    cancelling: str

    def restart(self) -> None:
        """Stop and start the server."""
        self.close_eyes()
        self._hands.submit(self.server.restart).result()

    def look(self, statement: str, alias: str = "default") -> list[Any]:
        """The rows of a query, over a connection that is kept."""
        if alias not in self._eyes:
            self._eyes[alias] = self.connect(alias)
        with self._eyes[alias].cursor() as cursor:
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
        """The name of the database on the server."""
        return str(self.databases()[alias]["NAME"])


class PostgreSQLPlace(ServerPlace):
    vendor = "postgresql"
    title = "PostgreSQL"
    server: PostgreSQL

    def __init__(self, server: PostgreSQL) -> None:
        super().__init__(server)
        server.sql("CREATE DATABASE other")
        self.fill()

    def clear(self) -> None:
        self.look(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
            " application_name <> 'production' AND backend_type = 'client backend'"
        )
        for (gid,) in self.look("SELECT gid FROM pg_prepared_xacts"):
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

    def hang_up(self) -> None:
        """Answer those who wait for the silent server, by ending their connections."""
        self._silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._silent.accept()[0].close()

    cancelling = "SELECT pg_cancel_backend({})"

    def name_of(self, connection: Any) -> str:
        return str(connection.info.backend_pid)

    def waiting(self) -> list[Any]:
        return self.look(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'production' AND"
            " wait_event_type = 'Lock'"
        )

    def fingerprint(self) -> Fingerprint:
        found: dict[str, object] = {
            "databases": self.look("SELECT datname FROM pg_database ORDER BY 1"),
            "roles": self.look("SELECT rolname FROM pg_roles ORDER BY 1"),
            "settings": self.look("SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting"),
        }
        for alias in self.aliases:
            columns = self.look(
                "SELECT c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod)"
                " FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
                " WHERE c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN"
                " ('pg_catalog', 'information_schema', 'pg_toast')) ORDER BY c.relname, a.attnum",
                alias,
            )
            tables = sorted({name for name, kind, *_ in columns if kind in ("r", b"r")})
            found[alias] = [
                *columns,
                *self.look(
                    "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
                    " ORDER BY 1",
                    alias,
                ),
                *(
                    (
                        table,
                        *self.look(
                            f"SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} t",
                            alias,
                        ),
                    )
                    for table in tables
                ),
            ]
        return found

    def held(self) -> list[object]:
        foreign = "application_name <> 'production' AND backend_type = 'client backend'"
        return [
            *self.look(
                "SELECT pid, datname, state, query, (SELECT count(*) FROM pg_locks l WHERE"
                f" l.pid = a.pid) FROM pg_stat_activity a WHERE {foreign}"
            ),
            *self.look(
                "SELECT l.pid, l.locktype, l.relation FROM pg_locks l LEFT JOIN pg_stat_activity a"
                " ON a.pid = l.pid WHERE a.pid IS NULL"
            ),
            *self.look("SELECT gid FROM pg_prepared_xacts"),
        ]


class MariaDBPlace(ServerPlace):
    vendor = "mysql"
    title = "MariaDB"
    server: MariaDB
    begin = "START TRANSACTION"
    # innodb_trx is a copy, which is renewed when nobody has read it for a tenth of a second.
    look_every = 0.11

    def __init__(self, server: MariaDB) -> None:
        super().__init__(server)
        #: Connections of production and of our own.
        self._known: set[int] = set()
        server.sql("CREATE DATABASE other; INSTALL SONAME 'metadata_lock_info'")
        self.fill()

    def clear(self) -> None:
        for row in self.look("SHOW PROCESSLIST"):
            if row[0] not in self._known:
                with suppress(Exception):
                    self.look(f"KILL {row[0]}")
        for name in ("smoketest", "other"):
            self.look(f"DROP DATABASE {name}")
            self.look(f"CREATE DATABASE {name}")
        self.look("UNINSTALL SONAME IF EXISTS 'disks'")
        for kind in ("DATABASE", "USER"):
            self.look(f"DROP {kind} IF EXISTS leftover")
        self.close_eyes()

    def objects(self) -> tuple[str, ...]:
        return (
            "CREATE PROCEDURE committing() BEGIN COMMIT; END",
            "CREATE TABLE ledger_myisam (id integer) ENGINE=MyISAM",
        )

    def connect(self, alias: str = "default", *, patience: float = 0) -> Any:
        connection = self.server.connect(self.name(alias))
        self._known.add(connection.thread_id())
        return connection

    def hang_up(self) -> None:
        """Answer those who wait for the silent server, by ending their connections."""
        self._silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._silent.accept()[0].close()

    cancelling = "KILL QUERY {}"

    def name_of(self, connection: Any) -> str:
        return str(connection.thread_id())

    def waiting(self) -> list[Any]:
        ours = ", ".join(map(str, self._known))
        return self.look(
            f"SELECT id FROM information_schema.processlist WHERE id IN ({ours}) AND"
            " (state LIKE 'Waiting for%lock%' OR state = 'Updating')"
        )

    def fingerprint(self) -> Fingerprint:
        ours = "('smoketest', 'other')"
        found: dict[str, object] = {
            "databases": self.look("SHOW DATABASES"),
            "users": self.look("SELECT user, host FROM mysql.user ORDER BY 1, 2"),
            "routines": self.look(
                "SELECT routine_schema, routine_name FROM information_schema.routines"
                f" WHERE routine_schema IN {ours} ORDER BY 1, 2"
            ),
            "columns": self.look(
                "SELECT table_schema, table_name, column_name, column_type, column_key"
                f" FROM information_schema.columns WHERE table_schema IN {ours}"
                " ORDER BY table_schema, table_name, ordinal_position"
            ),
            "indexes": self.look(
                "SELECT table_schema, table_name, index_name, column_name FROM"
                f" information_schema.statistics WHERE table_schema IN {ours} ORDER BY 1, 2, 3, 4"
            ),
        }
        tables = self.look(
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables"
            f" WHERE table_schema IN {ours} ORDER BY 1"
        )
        names = ", ".join(name for (name,) in tables)
        return found | {"rows": self.look(f"CHECKSUM TABLE {names} EXTENDED")}

    def held(self) -> list[object]:
        self.look("SELECT 1")  # its own connection is known then
        ours = f"({', '.join(map(str, self._known | {0}))})"
        return [
            *self.look(
                "SELECT id, db, command, state, info FROM information_schema.processlist"
                f" WHERE command <> 'Daemon' AND user <> 'system user' AND id NOT IN {ours}"
            ),
            *self.look(
                "SELECT trx_mysql_thread_id, trx_state, trx_query FROM"
                f" information_schema.innodb_trx WHERE trx_mysql_thread_id NOT IN {ours}"
            ),
            *self.look(
                "SELECT thread_id, lock_mode, lock_type, table_name FROM"
                f" information_schema.metadata_lock_info WHERE thread_id NOT IN {ours}"
            ),
        ]
