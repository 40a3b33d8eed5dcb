"""The alert rules, dashboards and example configuration that come with the package.

The files in ``prometheus/`` and ``grafana/`` of the project are valid as they are. This module
replaces the name of the job, the scrape interval, the path of the metrics and the replica labels.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from smoketest.cli import kubernetes

#: File with the digests of all written files, to detect later modifications.
MANIFEST = ".smoketest-assets.json"

_PACKAGE = Path(__file__).parents[1]
_RULES = "prometheus/rules/smoketest.yml"
_SERVICE_MONITOR = "prometheus/operator/servicemonitor.yml"
_ALERTMANAGER = "prometheus/alertmanager.yml"
_PROMETHEUS = ("prometheus/prometheus.yml", _ALERTMANAGER, _RULES)
_TOKEN = "prometheus/smoketest.token"  # noqa: S105 - the name of a file

# The values in the files of the project.
_JOB = re.compile(r"((?:job_name|replacement|io/name): )shop(-smoketest)?$", re.MULTILINE)
_INTERVAL = re.compile(r"(interval: )30s$", re.MULTILINE)
_METRICS = "/smoketest/metrics"
#: Labels that distinguish the replicas of a site. The rules contain this list, always in one piece.
REPLICA_LABELS = ("instance", "pod", "container", "endpoint", "node")
_REPLICA_LABELS = re.compile(r",\s*".join(rf"\b{label}\b" for label in REPLICA_LABELS))
#: Words that YAML does not read as strings.
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The values of the site in the configuration of Prometheus."""

    job: str
    #: Scrape and evaluation interval, such as ``30s``.
    interval: str
    metrics_path: str
    #: Labels that distinguish the replicas of the site.
    replica_labels: Sequence[str] = REPLICA_LABELS
    #: Labels of the resources for Kubernetes, which select the resources for an operator.
    labels: Mapping[str, str] = field(default_factory=dict)


class ChangedFilesError(Exception):
    """Modified files would be overwritten; nothing was written."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        super().__init__(", ".join(map(str, self.paths)))


def collect(site: Site, *, operator: bool) -> dict[str, str]:
    """Return the contents of all files by path.

    With `operator`, they are resources of the Prometheus Operator instead of configuration files.
    """
    source = _source()
    grafana = [
        path.relative_to(source).as_posix()
        for pattern in ("dashboards/*.json", "provisioning/*/*.yml")
        for path in sorted((source / "grafana").glob(pattern))
    ]
    names = [_SERVICE_MONITOR, _RULES, _ALERTMANAGER] if operator else [*_PROMETHEUS, _TOKEN]
    files = {name: (source / name).read_text(encoding="utf-8") for name in [*names, *grafana]}
    files[_RULES] = _REPLICA_LABELS.sub(", ".join(site.replica_labels), files[_RULES])
    for name in {_SERVICE_MONITOR, _PROMETHEUS[0]} & files.keys():
        files[name] = _for_site(files[name], site)
    if operator:
        resources = kubernetes.resources(
            files.pop(_SERVICE_MONITOR),
            rules=files.pop(_RULES),
            alertmanager=files.pop(_ALERTMANAGER),
            dashboards={
                Path(name).stem: content
                for name, content in files.items()
                if name.startswith("grafana/dashboards/")
            },
            labels=site.labels,
        )
        files |= {f"prometheus/{name}": content for name, content in resources.items()}
    return files


class Written(NamedTuple):
    """The written and the kept files."""

    new: list[Path]
    #: Files that were modified locally and have not changed in this release.
    kept: list[Path]


def write(files: Mapping[str, str], folder: Path, *, force: bool) -> Written:
    """Write the files that have changed since the last call.

    Raise `ChangedFilesError` if such a file was also modified locally, unless `force` is true.
    Raise `OSError` or `ValueError` if the directory cannot be used.
    """
    manifest = folder / MANIFEST
    written: dict[str, str] = json.loads(manifest.read_text()) if manifest.exists() else {}
    changed, kept, pending = [], [], {}
    for name, content in files.items():
        path, digest = folder / name, _digest(content.encode())
        present = _digest(path.read_bytes()) if path.exists() else None
        is_edited = present is not None and present != written.get(name)
        if present == digest:
            continue
        if is_edited and written.get(name) == digest and not force:
            kept.append(path)
            continue
        if is_edited:
            changed.append(path)
        pending[path] = content
    if changed and not force:
        raise ChangedFilesError(changed)
    for path, content in pending.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    folder.mkdir(parents=True, exist_ok=True)
    written |= {name: _digest(content.encode()) for name, content in files.items()}
    manifest.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    return Written(list(pending), kept)


def _source() -> Path:
    """Return the directory of the files: in an installed package, or in a checkout."""
    installed = _PACKAGE / "assets"
    return installed if installed.is_dir() else _PACKAGE.parent


def _for_site(content: str, site: Site) -> str:
    content = _JOB.sub(lambda match: match[1] + _scalar(site.job + (match[2] or "")), content)
    content = _INTERVAL.sub(rf"\g<1>{site.interval}", content)
    return content.replace(_METRICS, site.metrics_path)


def _scalar(text: str) -> str:
    """Return the text as a YAML string."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text) and text.lower() not in _YAML_WORDS
    return text if is_plain else json.dumps(text)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
