"""Exporter that writes a file for the textfile collector of node_exporter.

https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.registry import Collector

from smoketest.exporters import ExportError
from smoketest.metrics import PROJECT_LABEL

SUFFIX = ".prom"
#: A series that each of our files contains once.
_BUILD_INFO = re.compile(r"^smoketest_build_info\{(.*)\} 1", re.MULTILINE)
_PROJECT = re.compile(rf'(?:^|,){PROJECT_LABEL}="([^"]*)"')


def write(path: Path, collector: Collector, *, project: str = "") -> None:
    """Replace the file atomically. Raise `ExportError`.

    `project` is the ``SMOKETEST_PROJECT`` of the site. It is required if the directory contains a
    file of another site: of two files with the same series, node_exporter exports only one.
    """
    if path.suffix != SUFFIX:
        msg = f"{path} does not end in {SUFFIX}; node_exporter only reads files that do."
        raise ExportError(msg)
    _refuse_same_series(path, project)
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


def _refuse_same_series(path: Path, project: str) -> None:
    """Raise `ExportError` if another site has written the file, or a file with the same series."""
    if (own := _project_in(path)) and own != project:
        msg = (
            f"{path} contains the metrics of the site {own!r}. Choose another file name for this"
            " site, or delete the file if the SMOKETEST_PROJECT of this site was changed."
        )
        raise ExportError(msg)
    for other in sorted(path.parent.glob(f"*{SUFFIX}")):
        found = None if other.name == path.name else _project_in(other)
        if found is None or (project and found != project):
            continue
        solution = (
            "Give each site a different SMOKETEST_PROJECT"
            if project
            else "Set SMOKETEST_PROJECT to a name of this site, and do the same for the other site"
        )
        msg = (
            f"{other} also contains metrics of smoke tests, and node_exporter would drop those of"
            f" one of the two files. {solution}; if the file is not used any more, delete it."
        )
        raise ExportError(msg)


def _project_in(path: Path) -> str | None:
    """Return the name of the site in one of our files, or None if it is not one of them."""
    try:
        build_info = _BUILD_INFO.search(path.read_text(errors="replace"))
    except OSError:
        return None
    if build_info is None:
        return None
    project = _PROJECT.search(build_info[1])
    return project[1] if project else ""
