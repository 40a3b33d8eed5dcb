"""Sockets that keep the deadline of a request.

The timeouts of urllib3 limit each read and write, so they never end a request to a server that
sends single bytes. The timeout of these sockets is the time until the deadline.
"""

from __future__ import annotations

import socket
import ssl
from time import monotonic
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.util.connection import create_connection

_OPTIONS = HTTPConnection.default_socket_options


class Clock:
    """Measures the duration of each step, and the time until the deadline."""

    def __init__(self, time_limit: float) -> None:
        self._started = self._last = monotonic()
        self._deadline = self._started + time_limit
        #: Seconds by step.
        self.steps: dict[str, float] = {}
        self.step = "resolving the name"

    @property
    def seconds(self) -> float:
        return monotonic() - self._started

    def left(self) -> float:
        """Return the seconds until the deadline. Raises `TimeoutError` after it."""
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def next(self, step: str) -> None:
        """End the current step, and begin another one. Raises `TimeoutError`."""
        self.left()
        now = monotonic()
        self.steps[self.step] = now - self._last
        self._last, self.step = now, step


class Socket(socket.socket):
    """Socket that is connected, and times out at the deadline."""

    clock: Clock

    @property
    def timeout(self) -> float:  # for gevent, which waits several times for one handshake
        return self.clock.left()

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        self.settimeout(value)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.clock.left())
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.clock.left())
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(self.clock.left())
        super().sendall(*args, **kwargs)


def connect(host: str, port: int, clock: Clock) -> Socket:
    """Connect to the first reachable address of the host; they share the time that is left."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    clock.next("connecting")
    problem: OSError | None = None
    for number, (*_, address) in enumerate(addresses):
        share = clock.left() / (len(addresses) - number)
        try:
            opened = create_connection((str(address[0]), port), share, None, _OPTIONS)
        except OSError as error:
            problem = problem or error
        else:
            connected = Socket(fileno=opened.detach())
            connected.clock = clock
            return connected
    raise problem or OSError("the host name has no address")


def get_tls_context(ca_file: str, clock: Clock) -> ssl.SSLContext:
    """Return a context that trusts the certificates in the file, or else those of the system."""

    class TLSSocket(Socket, ssl.SSLSocket):
        def do_handshake(self, *args: Any) -> None:  # without arguments in gevent
            clock.next("performing the TLS handshake")
            self.settimeout(clock.left())
            super().do_handshake(*args)

    TLSSocket.clock = clock
    context = ssl.create_default_context(cafile=ca_file or None)
    context.sslsocket_class = TLSSocket
    return context
