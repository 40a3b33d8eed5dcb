"""Small threaded servers that speak TLS, close connections early or never respond."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Function that serves a single connection.
Handler = Callable[[socket.socket], None]


@contextmanager
def listening(
    handler: Handler, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1"
) -> Iterator[int]:
    """Run a server on a free port and yield the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            handler(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                if context is not None:
                    # The handshake happens in the thread of the connection, as a client may delay
                    # it. `opened` must contain the socket by then, so that it can be shut down.
                    connection = context.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                opened.append(connection)
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(60)
        for connection in opened:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(60)


def request_of(connection: socket.socket) -> bytes:
    """Return the head of a request, with any part of the body received together with it."""
    received = b""
    while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
        received += more
    return received


def respond_with(response: bytes, requests: list[bytes] | None = None) -> Handler:
    """Return a handler that reads a request, sends these bytes and closes the connection."""

    def handler(connection: socket.socket) -> None:
        request = request_of(connection)
        if requests is not None and request:
            requests.append(request)
        connection.sendall(response)
        connection.close()

    return handler


def dripping(head: bytes) -> Handler:
    """Send a response byte by byte after this beginning, so that no read times out."""

    def handler(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(head)
        while True:  # until the client disconnects
            connection.sendall(b"X")
            time.sleep(0.05)

    return handler


def dripping_records(connection: socket.socket) -> None:
    """Begin a TLS handshake message of 4,096 bytes, and send it byte by byte."""
    connection.sendall(b"\x16\x03\x03\x10\x00")
    while True:  # until the client disconnects
        connection.sendall(b"\x02")
        time.sleep(0.05)


def http(status: str = "200 OK", body: bytes = b"", *headers: str) -> bytes:
    """Return an HTTP/1.1 response."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Authority:
    """Certificate authority that only clients with its file trust."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def context(self, name: str = "localhost", *, days: float = 100) -> ssl.SSLContext:
        """Return a server context whose certificate expires in `days` (negative: expired)."""
        now = datetime.datetime.now(datetime.UTC)
        certificate = self._ca.issue_cert(
            name,
            not_before=now - datetime.timedelta(days=200),
            not_after=now + datetime.timedelta(days=days),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server context with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=100))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem: Any = serialization.Encoding.PEM
    path = folder / "self-signed.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
