"""A Pushgateway that keeps what it is given in memory."""

from __future__ import annotations

from tests.servers.client import get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server
from tests.servers.services import require


class Pushgateway(Server):
    """Takes pushes at `url`."""

    name = "pushgateway"

    def command(self) -> list[str]:
        """The gateway on loopback, without a file."""
        return [
            require("prometheus-pushgateway"),
            f"--web.listen-address={self.address}",
            "--persistence.file=",  # Debian has one for all by default
        ]

    def is_ready(self) -> bool:
        """Whether it takes pushes."""
        return get(self.port, "/-/ready").status == 200

    @property
    def url(self) -> str:
        """Where to push."""
        return f"http://{self.address}"

    def metrics(self) -> Exposition:
        """One scrape in the text format."""
        response = get(self.port, "/metrics", {"Accept": "text/plain"})
        assert response.status == 200, f"{response.status}: {response.text}"
        return Exposition(response.text)
