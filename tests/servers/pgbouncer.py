"""A PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

import subprocess

from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import Server
from tests.servers.services import require


class PgBouncer(Server):
    """A pooler with a small pool, in one of its pool modes."""

    name = "pgbouncer"
    unprivileged_users = ("postgres", "nobody")

    def __init__(self, server: PostgreSQL, *, pool_mode: str, pool_size: int) -> None:
        super().__init__()
        self.server = server
        self.pool_mode = pool_mode
        self.pool_size = pool_size

    def prepare(self) -> None:
        """Write the configuration."""
        users = self.folder / "users.txt"
        users.write_text(f'"{self.server.role}" ""\n')
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            f"""[databases]
* = host=127.0.0.1 port={self.server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = {self.server.role}
pool_mode = {self.pool_mode}
default_pool_size = {self.pool_size}
server_lifetime = 3600
"""
        )
        for path in (users, config):
            path.chmod(0o644)

    def command(self) -> list[str]:
        """Return the command line."""
        return [require("pgbouncer"), str(self.folder / "pgbouncer.ini")]

    def is_ready(self) -> bool:
        """Return whether it forwards a query."""
        return (
            subprocess.run(
                [
                    *(require("psql"), "--no-psqlrc", "-XqAt", "-h", "127.0.0.1", "-p"),
                    *(str(self.port), "-U", self.server.role, self.server.database),
                    *("-c", "SELECT 1"),
                ],
                capture_output=True,
                check=False,
                timeout=60,
            ).returncode
            == 0
        )
