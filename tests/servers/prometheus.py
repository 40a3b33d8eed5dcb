"""Prometheus server with configurable targets."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.client import get
from tests.servers.processes import Server, wait_for
from tests.servers.services import require


@dataclass(frozen=True, slots=True)
class Sample:
    """Element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Prometheus(Server):
    """Server that scrapes `targets` (`host:port`) every second.

    `config` overrides top-level keys of the configuration. `files`, such as rules and tokens, are
    written next to it. A `config_file` is used unchanged.
    """

    name = "prometheus"

    def __init__(
        self,
        *targets: str,
        path: str = "/smoketest/metrics",
        scrape_interval: str = "1s",
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        config_file: Path | None = None,
    ) -> None:
        super().__init__()
        self.files = files or {}
        self._config_file = config_file
        self.config = {
            "global": {
                "scrape_interval": scrape_interval,
                "scrape_timeout": "1s",
                "evaluation_interval": scrape_interval,
            },
            "scrape_configs": [
                {
                    "job_name": "site",
                    "metrics_path": path,
                    "static_configs": [{"targets": list(targets)}],
                }
            ],
            **(config or {}),
        }

    def prepare(self) -> None:
        """Write the configuration as JSON, which is valid YAML."""
        files = {"prometheus.yml": json.dumps(self.config, indent=2), **self.files}
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def command(self) -> list[str]:
        """Return a command that listens on loopback."""
        return [
            require("prometheus"),
            f"--config.file={self._config_file or self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        """Return whether the server accepts queries."""
        return get(self.port, "/-/ready").status == 200

    def api(self, endpoint: str, **parameters: str) -> Any:
        """Return the `data` of a response of the HTTP API."""
        answer = get(self.port, f"/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}")
        assert answer.status == 200, f"{endpoint} {parameters}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> list[Sample]:
        """Return the current instant vector of an expression."""
        data = self.api("query", query=expression)
        assert data["resultType"] == "vector", f"{expression} is of type {data['resultType']}"
        return [Sample(item["metric"], float(item["value"][1])) for item in data["result"]]

    def wait_for(
        self,
        expression: str,
        predicate: Callable[[Sequence[Sample]], object] = bool,
    ) -> list[Sample]:
        """Query until the predicate is true for the result."""
        return wait_for(
            lambda: self.query(expression),
            predicate,
            what=expression,
            every=0.25,
        )

    def targets(self) -> list[dict[str, Any]]:
        """Return the scrape targets, with `health` and `lastError`."""
        active: list[dict[str, Any]] = self.api("targets")["activeTargets"]
        return active

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules of all groups, with `health` and `lastError`."""
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]


def check_metrics(exposition: str) -> subprocess.CompletedProcess[str]:
    """Run `promtool check metrics` on a text exposition."""
    return subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
    )
