"""A Redis of one's own: in memory alone, and fit to be killed."""

from __future__ import annotations

import contextlib
import socket

from tests.servers.processes import Server
from tests.servers.services import require


class Redis(Server):
    """One server on loopback that keeps nothing on disk; options are those of redis.conf."""

    name = "redis"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {"save": "", "appendonly": "no", **settings}

    def command(self) -> list[str]:
        """The server, in the foreground, without a configuration file."""
        settings: list[str] = []
        for name, value in self.settings.items():
            settings += [f"--{name.replace('_', '-')}", value]
        return [
            require("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(self.folder), "--daemonize", "no", *settings,
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Whether it answers; one with a password answers that it wants to be told that."""
        return self.talk("PING").startswith(("+PONG", "-NOAUTH"))

    def talk(self, *arguments: str) -> str:
        """Send one command, and return what Redis answers in its protocol.

        Enough for answers that fit in one packet; everything else is for a client.
        """
        words = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in arguments)
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 60)) as client:
            client.sendall(f"*{len(arguments)}\r\n{words}".encode())
            return client.recv(65536).decode()

    @property
    def url(self) -> str:
        """The address of its first database, in the usual notation."""
        return f"redis://{self.address}/0"
