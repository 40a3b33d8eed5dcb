"""node_exporter with only the textfile collector."""

from __future__ import annotations

from pathlib import Path

from tests.servers.client import get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server
from tests.servers.services import require


class NodeExporter(Server):
    """Exporter of the `.prom` files in `text_folder`."""

    name = "node_exporter"

    def prepare(self) -> None:
        """Create the folder of the text files."""
        self.text_folder.mkdir()

    def command(self) -> list[str]:
        """Return a command that listens on loopback and enables only the textfile collector."""
        return [
            require("prometheus-node-exporter"),
            f"--web.listen-address={self.address}",
            "--web.disable-exporter-metrics",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={self.text_folder}",
        ]

    def is_ready(self) -> bool:
        """Return whether the start page is served."""
        return get(self.port, "/").status == 200

    @property
    def text_folder(self) -> Path:
        """Return the folder of the text files."""
        return self.folder / "text"

    def metrics(self) -> Exposition:
        """Scrape the text format."""
        response = get(self.port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)
