"""A plain HTTP client for loopback: no proxy, no pool, no redirects."""

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
    """An answer, and when it came."""

    status: int
    headers: Message
    body: bytes
    #: seconds from before the connection until the whole body was there
    elapsed: float
    #: the clock when the body was there
    received_at: float

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 60
) -> Response:
    """GET a path from a server on this machine, over a fresh connection."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        body = answer.read()
    elapsed = time.monotonic() - started
    return Response(answer.status, answer.headers, body, elapsed, time.time())
