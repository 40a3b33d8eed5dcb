"""PostgreSQL server with a temporary data directory, which tests may kill."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

from tests.servers.processes import Server
from tests.servers.services import require


class PostgreSQL(Server):
    """Cluster with the database `smoketest` and a superuser of the same name."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # fast shutdown, without waiting for clients
    unprivileged_users = ("postgres", "nobody")
    database = "smoketest"
    role = "smoketest"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": "60",
            **settings,
        }

    def prepare(self) -> None:
        """Create the cluster and the database, before other clients can connect."""
        data = str(self.folder / "data")
        self.run(
            require("initdb"), "--pgdata", data, "--username", self.role, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        subprocess_input = f"CREATE DATABASE {self.database}"
        self.run(
            "sh", "-c", 'echo "$1" | "$2" --single -D "$3" -F postgres', "sh",
            subprocess_input, require("postgres"), data,
        )  # fmt: skip

    def command(self) -> list[str]:
        """Return a command that listens on loopback and on a socket in the server's folder."""
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        return [
            require("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-k", str(self.folder), *settings,
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        return self._psql("SELECT 1").returncode == 0

    def sql(self, statement: str) -> str:
        """Run a statement with psql and return its unaligned output."""
        done = self._psql(statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def url(self) -> str:
        """Return the URL of the database, as understood by libpq."""
        return f"postgresql://{self.role}@{self.address}/{self.database}"

    def django(self, **options: Any) -> dict[str, Any]:
        """Return an entry for `DATABASES`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self.database,
            "USER": self.role,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **options,
        }

    def _psql(self, statement: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [require("psql"), "--no-psqlrc", "-XqAt", self.url, "-c", statement],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
