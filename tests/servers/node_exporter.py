"""A node_exporter that shows the text files of a folder, and nothing of the machine."""

from __future__ import annotations

from pathlib import Path

from tests.servers.client import get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server
from tests.servers.services import require


class NodeExporter(Server):
    """Reads the `.prom` files of `text_folder` at each scrape."""

    name = "node_exporter"

    def prepare(self) -> None:
        """Make the folder that it reads."""
        self.text_folder.mkdir()

    def command(self) -> list[str]:
        """The exporter on loopback, with its textfile collector alone."""
        return [
            require("prometheus-node-exporter"),
            f"--web.listen-address={self.address}",
            "--web.disable-exporter-metrics",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={self.text_folder}",
        ]

    def is_ready(self) -> bool:
        """Whether it serves its start page."""
        return get(self.port, "/").status == 200

    @property
    def text_folder(self) -> Path:
        """Where it looks for files."""
        return self.folder / "text"

    def metrics(self) -> Exposition:
        """One scrape in the text format."""
        response = get(self.port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)
