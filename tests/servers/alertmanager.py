"""Alertmanager, and a webhook that receives its notifications."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.client import get
from tests.servers.processes import Server
from tests.servers.services import require

Labels = Mapping[str, str]


class Alertmanager(Server):
    """Alertmanager with a configuration file, or with a configuration given as text."""

    name = "alertmanager"

    def __init__(self, config: Path | str) -> None:
        super().__init__()
        self.config = config

    def prepare(self) -> None:
        """Write the configuration."""
        if isinstance(self.config, str):
            self.config_file.write_text(self.config)

    def command(self) -> list[str]:
        """Return a command that listens on loopback, without a cluster."""
        return [
            require("prometheus-alertmanager"),
            f"--config.file={self.config_file}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        """Return whether the server accepts alerts."""
        return get(self.port, "/-/ready").status == 200

    @property
    def config_file(self) -> Path:
        """Return the path of the configuration file."""
        return self.config if isinstance(self.config, Path) else self.folder / "alertmanager.yml"

    def alerts(self) -> list[dict[str, Any]]:
        """Return the active alerts, with `labels`, `receivers` and `status` (`inhibitedBy`)."""
        answer = get(self.port, "/api/v2/alerts")
        assert answer.status == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def fire(self, alerts: Iterable[Labels]) -> None:
        """Send alerts as Prometheus does."""
        request = urllib.request.Request(
            f"http://{self.address}/api/v2/alerts",
            data=json.dumps([{"labels": dict(labels)} for labels in alerts]).encode(),
            headers={"Content-Type": "application/json"},
        )
        no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with no_proxy.open(request, timeout=60) as answer:
            assert answer.status == 200


@dataclass(frozen=True, slots=True)
class Notification:
    """Request of Alertmanager to a webhook."""

    #: name of the receiver in the configuration
    receiver: str
    #: `firing` or `resolved`
    status: str
    alerts: tuple[Mapping[str, Any], ...]
    #: Unix time.
    received_at: float = field(default_factory=time.time)

    @property
    def names(self) -> set[str]:
        """Return the names of the alerts."""
        return {alert["labels"]["alertname"] for alert in self.alerts}


@dataclass
class Receiver:
    """Webhook on loopback that records notifications inside the `with` block."""

    notifications: list[Notification] = field(default_factory=list)

    def __enter__(self) -> Self:
        notifications = self.notifications

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                notifications.append(
                    Notification(body["receiver"], body["status"], tuple(body["alerts"]))
                )
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Disable logging."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL of the webhook."""
        return f"http://127.0.0.1:{self._server.server_port}"
