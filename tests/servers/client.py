"""HTTP client for loopback, without proxies, connection pooling or redirects."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True, slots=True)
class Response:
    """Response, with the time at which it was received."""

    status: int
    headers: Message
    body: bytes
    #: seconds from opening the connection until the body was read
    elapsed: float
    #: time at which the body had been read
    received_at: float

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as parsed JSON."""
        return json.loads(self.body)


def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
) -> Response:
    """GET a path from a server on this machine, over a new connection."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        body = answer.read()
    elapsed = time.monotonic() - started
    return Response(answer.status, answer.headers, body, elapsed, time.time())
