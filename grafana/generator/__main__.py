"""Write the dashboards as JSON. The output is reproducible."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana.generator import overview, single_test

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
#: Functions that build a dashboard, by file name.
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "smoketest-overview.json": overview.dashboard,
    "smoketest-test.json": single_test.dashboard,
}


def render(dashboard: models.Dashboard) -> str:
    """Return the dashboard as JSON for Grafana."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write all dashboards to the folder."""
    for name, make in DASHBOARDS.items():
        (folder / name).write_text(render(make().build()))


if __name__ == "__main__":
    write()
