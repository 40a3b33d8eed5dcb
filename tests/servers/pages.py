"""Pages on a loopback port, such as those that a Prometheus scrapes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Page(NamedTuple):
    """A response to GET."""

    content_type: str
    body: bytes
    status: int = 200


@contextmanager
def serve(page_of: Callable[[str, int], Page]) -> Iterator[int]:
    """Serve the pages that the function returns for a path and the port, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = page_of(self.path, self.server.server_address[1])  # type: ignore[arg-type]
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            with suppress(ConnectionError):  # Prometheus may be stopping
                self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
