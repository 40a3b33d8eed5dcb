"""Exporter that serves the metrics on a port, for hosts whose site Prometheus cannot scrape."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Socket timeout of a client, in seconds.
CLIENT_TIMEOUT = 10.0
#: Maximum delay of a shutdown, in seconds.
POLL_SECONDS = 0.1


class _Server(ThreadingWSGIServer):
    """Server with the TLS handshake in the thread of the request.

    A client that does not complete the handshake then does not block other clients.
    """

    tls: ssl.SSLContext | None = None

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            # Some systems default to IPv6 only; [::] means all addresses.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(CLIENT_TIMEOUT)
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        try:
            super().finish_request(request, client_address)
        finally:
            self.shutdown_request(request)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited name
        """Do not log requests."""


@contextmanager
def serving(
    host: str, port: int, collector: Collector, certificate: Path | None, key: Path | None
) -> Iterator[None]:
    """Serve ``/metrics`` while the context is active; with a certificate and key, over TLS.

    Raise `ExportError`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    tls = None if certificate is None else _load_certificate(certificate, key)
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        attributes = {"address_family": address[0], "tls": tls}
        server_class: type[_Server] = type("Server", (_Server,), attributes)
        app = _read_only(make_wsgi_app(registry))
        server = make_server(host, port, app, server_class, _QuietHandler)
    except OSError as error:
        msg = f"The metrics cannot be served on {format_address(host, port)}: {error}."
        raise ExportError(msg) from error
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def format_address(host: str, port: int) -> str:
    """Return the address as in a URL, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_only(app: WSGIApplication) -> WSGIApplication:
    """Make an app answer HEAD like GET, but without the body, and refuse methods that write.

    Releases of prometheus_client differ: they refuse HEAD, or answer all methods like GET.
    """

    def read_only(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method in {"GET", "OPTIONS"}:
            return app(environ, start_response)
        if method != "HEAD":
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD, OPTIONS")])
            return ()
        answers: list[Any] = []

        def remember(*answer: Any) -> Any:
            answers.append(answer)

        body = app(environ | {"REQUEST_METHOD": "GET"}, remember)
        length = sum(map(len, body))
        ((status, headers),) = answers
        start_response(status, [*headers, ("Content-Length", str(length))])
        return ()

    return read_only


def _load_certificate(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # includes ssl.SSLError
        msg = f"The certificate {certificate} and the key {key} cannot be used: {error}."
        raise ExportError(msg) from error
    return context
