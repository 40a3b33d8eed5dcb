"""SMTP server that rejects mail but accepts logins."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import socket
import sys
from pathlib import Path
from typing import Any

from tests.servers.processes import Server
from tests.servers.services import missing

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "smoketest", "let-me-in-please"  # of a temporary server on loopback


class SMTP(Server):
    """aiosmtpd in a separate process, which logs every command of a client."""

    name = "smtp"

    def command(self) -> list[str]:
        """Return a command that runs this module."""
        if importlib.util.find_spec("aiosmtpd") is None:
            missing("aiosmtpd is not installed: pip install aiosmtpd")
        return [sys.executable, "-m", __name__, str(self.port)]

    def environment(self) -> dict[str, str]:
        """Return an environment in which the tests can be imported."""
        return {**super().environment(), "PYTHONPATH": str(ROOT)}

    def is_ready(self) -> bool:
        """Return whether the server sends its greeting."""
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 60)) as client:
            return client.recv(100).startswith(b"220")


async def _serve(port: int) -> None:
    # Imported here, because test collection must also work without aiosmtpd.
    from aiosmtpd import smtp  # noqa: PLC0415

    def authenticate(_server: Any, _session: Any, _envelope: Any, _kind: str, data: Any) -> Any:
        is_known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return smtp.AuthResult(success=is_known, handled=False)

    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return smtp.SMTP(
            object(),
            authenticator=authenticate,
            auth_require_tls=False,
            hostname="smoketest",
            loop=loop,
        )

    server = await loop.create_server(protocol, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
