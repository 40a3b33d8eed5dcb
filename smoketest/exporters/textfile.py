"""A file for the textfile collector of node_exporter.

https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError

SUFFIX = ".prom"


def write(path: Path, collector: Collector) -> None:
    """Replace the file in one step. Raises `ExportError`."""
    if path.suffix != SUFFIX:
        msg = f"{path} does not end in {SUFFIX}: node_exporter would not read it."
        raise ExportError(msg)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        msg = (
            f"{path} cannot be written: {error.strerror}. Give the path of a file in a folder"
            " that this user may write."
        )
        raise ExportError(msg) from error
