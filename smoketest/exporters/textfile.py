"""Exporter that writes a file for the textfile collector of node_exporter.

https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError

SUFFIX = ".prom"


def write(path: Path, collector: Collector) -> None:
    """Replace the file atomically. Raise `ExportError`."""
    if path.suffix != SUFFIX:
        msg = f"{path} does not end in {SUFFIX}; node_exporter only reads files that do."
        raise ExportError(msg)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        msg = (
            f"{path} cannot be written: {error.strerror}. Choose a directory that this user can"
            " write to."
        )
        raise ExportError(msg) from error
