"""Settings in the provisioning files."""

from __future__ import annotations

import re

from tests.grafana.model import ROOT

FOLDER = ROOT / "grafana" / "provisioning"


def settings(path: str) -> dict[str, str]:
    """Return every ``key: value`` of a file, at any depth; keys are unique."""
    found = re.findall(r"^[ -]*(\w+): (\S.*)$", (FOLDER / path).read_text(), re.MULTILINE)
    assert len(dict(found)) == len(found)
    return dict(found)


def test_provisioning__has_the_folders_of_grafana() -> None:
    """Each folder of Grafana has one file."""
    files = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*"))
    assert files == ["dashboards/smoketest.yml", "datasources/smoketest.yml"]


def test_dashboards__come_from_a_folder_of_files() -> None:
    """Grafana reads the dashboards from files and does not overwrite them."""
    found = settings("dashboards/smoketest.yml")
    assert found == {
        "apiVersion": "1",
        "name": "django-smoketest",
        "folder": "Smoke tests",
        "folderUid": "smoketest",
        "type": "file",
        "allowUiUpdates": "false",
        "disableDeletion": "false",
        "updateIntervalSeconds": "30",
        "path": "/var/lib/grafana/dashboards",
    }


def test_datasource__is_a_prometheus() -> None:
    """The data source can be selected and does not become the default."""
    found = settings("datasources/smoketest.yml")
    assert found["type"] == "prometheus"
    assert found["url"] == "http://localhost:9090"
    assert found["uid"] == "smoketest-prometheus"
    assert "isDefault" not in found
