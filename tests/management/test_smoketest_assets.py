"""`manage.py smoketest_assets`: write configuration for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import subprocess
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.urls.base import set_script_prefix

from smoketest.cli import assets
from tests.servers.services import require

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "grafana/dashboards/smoketest-overview.json",
    "grafana/dashboards/smoketest-test.json",
    "grafana/provisioning/dashboards/smoketest.yml",
    "grafana/provisioning/datasources/smoketest.yml",
    "prometheus/alertmanager.yml",
    "prometheus/prometheus.yml",
    "prometheus/rules/smoketest.yml",
    "prometheus/smoketest.token",
}
OPERATOR_FILES = {name for name in FILES if name.startswith("grafana/")} | {
    "prometheus/operator/prometheusrule.yml",
    "prometheus/operator/servicemonitor.yml",
}
SITE = assets.Site(job="bookshop", interval="15s", metrics_path="/ops/smoke/metrics")


def write(folder: Path, *arguments: str) -> str:
    """Run the command and return what it prints."""
    output = StringIO()
    call_command("smoketest_assets", str(folder), *arguments, stdout=output)
    return output.getvalue()


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != assets.MANIFEST
    }


@pytest.mark.parametrize(("arguments", "expected"), [([], FILES), (["--operator"], OPERATOR_FILES)])
def test_write__all_files(tmp_path: Path, arguments: list[str], expected: set[str]) -> None:
    """All files are written and listed, and a missing directory is created."""
    folder = tmp_path / "new" / "folder"
    output = write(folder, *arguments)
    assert files(folder) == expected
    assert sorted(output.splitlines()) == sorted(f"wrote {folder / name}" for name in expected)


def test_write__rules_and_dashboards_unchanged(tmp_path: Path) -> None:
    """The written files equal those that the tests of the project verify."""
    write(tmp_path, "--job=bookshop", "--interval=15s")
    as_they_are = FILES - {"prometheus/prometheus.yml"}
    assert [name for name in as_they_are if _text(tmp_path, name) != _text(ROOT, name)] == []


def test_write__job_interval_and_path(tmp_path: Path) -> None:
    """The configuration has the job, interval and metrics path of the site."""
    set_script_prefix("/app/")
    try:
        write(tmp_path, "--job=bookshop", "--interval=15s")
    finally:
        set_script_prefix("/")
    config = _text(tmp_path, "prometheus/prometheus.yml")
    assert "  - job_name: bookshop\n" in config
    assert "  scrape_interval: 15s\n  evaluation_interval: 15s\n" in config
    assert "    metrics_path: /app/smoketest/metrics\n" in config
    assert "shop\n" not in config.replace("bookshop\n", "")


def test_write__operator() -> None:
    """The rules are a PrometheusRule, and a ServiceMonitor selects the site."""
    contents = assets.collect(SITE, operator=True)
    monitor = contents["prometheus/operator/servicemonitor.yml"]
    for line in (
        "      app.kubernetes.io/name: bookshop\n",
        "      path: /ops/smoke/metrics\n",
        "      interval: 15s\n",
        "          replacement: bookshop\n",
    ):
        assert line in monitor
    assert yaml.safe_load(monitor)["kind"] == "ServiceMonitor"
    rule = yaml.safe_load(contents["prometheus/operator/prometheusrule.yml"])
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load(_text(ROOT, "prometheus/rules/smoketest.yml"))


def test_write__configuration_is_valid(tmp_path: Path) -> None:
    """promtool accepts the configuration and the token file as written."""
    promtool = require("promtool")
    write(tmp_path)
    config = tmp_path / "prometheus/prometheus.yml"
    done = subprocess.run(
        [promtool, "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rewrite__up_to_date(tmp_path: Path) -> None:
    write(tmp_path)
    assert write(tmp_path) == "8 files are up to date.\n"


def test_rewrite__unmodified_files(tmp_path: Path) -> None:
    """Unmodified files are overwritten, so that an upgrade does not require --force."""
    write(tmp_path)
    output = write(tmp_path, "--job=other")
    assert f"wrote {tmp_path / 'prometheus/prometheus.yml'}\n" in output
    assert "job_name: other" in _text(tmp_path, "prometheus/prometheus.yml")


def test_rewrite__keeps_modified_file(tmp_path: Path) -> None:
    """A modified file is kept while its new content is unchanged; other files are written."""
    write(tmp_path)
    token = tmp_path / "prometheus/smoketest.token"
    token.write_text("secret")
    rules = tmp_path / "prometheus/rules/smoketest.yml"
    rules.unlink()
    output = write(tmp_path)
    assert output == (
        f"wrote {rules}\nkept {token}, which you have modified\n6 files are up to date.\n"
    )
    assert token.read_text() == "secret"


def test_rewrite__conflict(tmp_path: Path) -> None:
    """If a modified file would be overwritten, no file is written without --force."""
    write(tmp_path)
    config = tmp_path / "prometheus/prometheus.yml"
    config.write_text("mine")
    rules = tmp_path / "prometheus/rules/smoketest.yml"
    rules.unlink()
    with pytest.raises(CommandError, match="were modified or not created") as caught:
        write(tmp_path, "--job=other")
    assert f"\n  {config}\n" in str(caught.value)
    assert "--force" in str(caught.value)
    assert config.read_text() == "mine"
    assert not rules.exists()
    write(tmp_path, "--job=other", "--force")
    assert "job_name: other" in config.read_text()


def test_rewrite__file_of_another_origin(tmp_path: Path) -> None:
    """A file that the command did not create is not overwritten without --force."""
    config = tmp_path / "prometheus/prometheus.yml"
    config.parent.mkdir()
    config.write_text("mine")
    with pytest.raises(CommandError, match="were modified or not created"):
        write(tmp_path)
    assert files(tmp_path) == {"prometheus/prometheus.yml"}
    assert config.read_text() == "mine"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--job=a b", "'a b' is not a valid job name; use letters, digits"),
        ("--job=", "'' is not a valid job name"),
        ("--interval=30", "'30' is not a valid interval; use a number and ms, s, m or h, such as"),
        ("--interval=0s", "'0s' is not a valid interval"),
    ],
)
def test_invalid_argument(tmp_path: Path, argument: str, message: str) -> None:
    """The error message states what is allowed, and nothing is written."""
    with pytest.raises(CommandError, match=message):
        write(tmp_path / "folder", argument)
    assert not (tmp_path / "folder").exists()


def test_directory_is_a_file(tmp_path: Path) -> None:
    """The error message asks for a writable directory."""
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="Choose a directory that you can write to"):
        write(tmp_path / "file")


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")
