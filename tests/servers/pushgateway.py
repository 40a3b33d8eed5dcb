"""Pushgateway that stores metrics only in memory."""

from __future__ import annotations

from tests.servers.client import get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server
from tests.servers.services import require


class Pushgateway(Server):
    """Pushgateway at `url`."""

    name = "pushgateway"

    def command(self) -> list[str]:
        """Return a command that listens on loopback, without a persistence file."""
        return [
            require("prometheus-pushgateway"),
            f"--web.listen-address={self.address}",
            "--persistence.file=",  # Debian sets a shared file by default
        ]

    def is_ready(self) -> bool:
        """Return whether the server accepts pushes."""
        return get(self.port, "/-/ready").status == 200

    @property
    def url(self) -> str:
        """Return the URL for pushes."""
        return f"http://{self.address}"

    def metrics(self) -> Exposition:
        """Scrape the text format."""
        response = get(self.port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)
