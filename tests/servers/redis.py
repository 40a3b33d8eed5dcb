"""Redis server without persistence, which tests may kill."""

from __future__ import annotations

import contextlib
import socket

from tests.servers.processes import Server
from tests.servers.services import require


class Redis(Server):
    """Server on loopback. Keyword arguments are settings of redis.conf."""

    name = "redis"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {"save": "", "appendonly": "no", **settings}

    def command(self) -> list[str]:
        """Return a command that runs in the foreground, without a configuration file."""
        settings: list[str] = []
        for name, value in self.settings.items():
            settings += [f"--{name.replace('_', '-')}", value]
        return [
            require("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(self.folder), "--daemonize", "no", *settings,
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Return whether the server responds, possibly with a request for a password."""
        return self.talk("PING").startswith(("+PONG", "-NOAUTH"))

    def talk(self, *arguments: str) -> str:
        """Send a command and return the raw response.

        Supports only responses that fit in one packet.
        """
        words = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in arguments)
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 60)) as client:
            client.sendall(f"*{len(arguments)}\r\n{words}".encode())
            return client.recv(65536).decode()

    @property
    def url(self) -> str:
        """Return the URL of the first database."""
        return f"redis://{self.address}/0"


class Sentinel(Redis):
    """Sentinel that monitors a server under a name of a service."""

    name = "sentinel"

    def __init__(self, primary: Redis, service: str) -> None:
        super().__init__()
        self._primary = primary
        self._service = service

    def prepare(self) -> None:
        """Write the configuration file, which Sentinel rewrites."""
        monitor = f"sentinel monitor {self._service} 127.0.0.1 {self._primary.port} 1"
        (self.folder / "sentinel.conf").write_text(f"{monitor}\n")

    def command(self) -> list[str]:
        """Return a command that runs in the foreground."""
        return [
            require("redis-server"), str(self.folder / "sentinel.conf"), "--sentinel",
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
        ]  # fmt: skip
