"""MariaDB server with a temporary data directory, which tests may kill."""

from __future__ import annotations

import importlib
import subprocess
from typing import Any

from tests.servers.processes import Server
from tests.servers.services import require


def load_driver() -> Any:
    """Return the module ``MySQLdb`` that Django uses: mysqlclient, or else PyMySQL.

    PyMySQL does not need a compiler.
    """
    try:
        return importlib.import_module("MySQLdb")
    except ImportError:
        pymysql = importlib.import_module("pymysql")
        pymysql.install_as_MySQLdb()
        return pymysql


class MariaDB(Server):
    """Server with the database `smoketest` and an administrator of the same name."""

    name = "mariadb"
    unprivileged_users = ("mysql", "nobody")
    database = "smoketest"
    account = "smoketest"
    password = "smoketest"  # of a temporary server on loopback

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {
            "innodb-flush-method": "nosync",
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "8M",
            "character-set-server": "utf8mb4",
            **settings,
        }

    def prepare(self) -> None:
        """Create the system tables and the statements that run at each start."""
        self.run(
            require("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--cross-bootstrap",
            # A starting server removes the temporary tables of all others that share its
            # directory.
            "--innodb-flush-method=nosync", f"--tmpdir={self.folder}",
        )  # fmt: skip
        account = f"'{self.account}'@'%' IDENTIFIED BY '{self.password}'"
        statements = [
            f"CREATE DATABASE IF NOT EXISTS {self.database}",
            f"CREATE USER IF NOT EXISTS {account}",
            f"GRANT ALL ON *.* TO '{self.account}'@'%' WITH GRANT OPTION",
        ]
        init_file = self.folder / "init.sql"
        init_file.write_text("".join(f"{statement};\n" for statement in statements))
        init_file.chmod(0o644)

    def command(self) -> list[str]:
        """Return a command that listens on loopback and on a socket in the server's folder."""
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        return [
            require("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'data'}",
            f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            f"--socket={self.socket}", f"--pid-file={self.folder / 'mariadb.pid'}",
            f"--tmpdir={self.folder}", f"--init-file={self.folder / 'init.sql'}", *settings,
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        return self._client("SELECT 1").returncode == 0

    def sql(self, statement: str) -> str:
        """Run a statement with the command-line client and return its tab-separated output."""
        done = self._client(statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def socket(self) -> str:
        """Return the path of the Unix socket."""
        return str(self.folder / "mariadb.sock")

    @property
    def url(self) -> str:
        """Return the URL of the database."""
        return f"mysql://{self.account}:{self.password}@{self.address}/{self.database}"

    def django(self, **options: Any) -> dict[str, Any]:
        """Return an entry for `DATABASES`, after making the driver importable."""
        load_driver()
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": self.database,
            "USER": self.account,
            "PASSWORD": self.password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **options,
        }

    def connect(self, database: str = database) -> Any:
        """Return a connection of the driver in autocommit mode."""
        return load_driver().connect(
            host="127.0.0.1", port=self.port, user=self.account, password=self.password,
            database=database, autocommit=True,
        )  # fmt: skip

    def _client(self, statement: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                require("mariadb"), "--no-defaults", "--protocol=tcp", "--host=127.0.0.1",
                f"--port={self.port}", f"--user={self.account}", f"--password={self.password}",
                "--batch", "--skip-column-names", self.database, "-e", statement,
            ],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
