"""`manage.py smoketest_assets`: files for Prometheus, Alertmanager and Grafana."""

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
def test_writes__everything(tmp_path: Path, arguments: list[str], expected: set[str]) -> None:
    """All files are there and told, whether the folder was or not."""
    folder = tmp_path / "new" / "folder"
    told = write(folder, *arguments)
    assert files(folder) == expected
    assert sorted(told.splitlines()) == sorted(f"wrote {folder / name}" for name in expected)


def test_writes__rules_and_dashboards_as_they_are(tmp_path: Path) -> None:
    """What the project tests is what a user gets."""
    write(tmp_path, "--job=bookshop", "--interval=15s")
    as_they_are = FILES - {"prometheus/prometheus.yml"}
    assert [name for name in as_they_are if _text(tmp_path, name) != _text(ROOT, name)] == []


def test_writes__job_interval_and_path(tmp_path: Path) -> None:
    """The configuration knows the site's job, its interval and where its metrics are."""
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


def test_writes__for_the_operator() -> None:
    """The same rules as a resource, and a monitor that knows the site."""
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


def test_written__configuration_is_valid(tmp_path: Path) -> None:
    """Prometheus takes it as it was written, the file with the token included."""
    promtool = require("promtool")
    write(tmp_path)
    config = tmp_path / "prometheus/prometheus.yml"
    done = subprocess.run(
        [promtool, "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_again__changes_nothing(tmp_path: Path) -> None:
    """The second time there is nothing to do."""
    write(tmp_path)
    assert write(tmp_path) == "8 files are up to date.\n"


def test_again__with_another_job_overwrites_what_nobody_changed(tmp_path: Path) -> None:
    """Files that are as they were written may be written anew: an upgrade needs no --force."""
    write(tmp_path)
    told = write(tmp_path, "--job=other")
    assert f"wrote {tmp_path / 'prometheus/prometheus.yml'}\n" in told
    assert "job_name: other" in _text(tmp_path, "prometheus/prometheus.yml")


def test_changed__file_is_kept_while_there_is_nothing_new_for_it(tmp_path: Path) -> None:
    """A token that was filled in does not stand in the way of later versions of the rules."""
    write(tmp_path)
    token = tmp_path / "prometheus/smoketest.token"
    token.write_text("secret")
    rules = tmp_path / "prometheus/rules/smoketest.yml"
    rules.unlink()
    told = write(tmp_path)
    assert told == (
        f"wrote {rules}\nkept {token}, which you have modified\n6 files are up to date.\n"
    )
    assert token.read_text() == "secret"


def test_changed__file_is_never_overwritten_without_force(tmp_path: Path) -> None:
    """A clash writes nothing at all, names the files and says what to do."""
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


def test_foreign__file_is_never_overwritten_without_force(tmp_path: Path) -> None:
    """So is a file that was there before the first time."""
    config = tmp_path / "prometheus/prometheus.yml"
    config.parent.mkdir()
    config.write_text("mine")
    with pytest.raises(CommandError, match="were modified or not created"):
        write(tmp_path)
    assert files(tmp_path) == {"prometheus/prometheus.yml"}
    assert config.read_text() == "mine"


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--job=a b", "'a b' is not a valid job name; use letters, digits"),
        ("--job=", "'' is not a valid job name"),
        ("--interval=30", "'30' is not a valid interval; use a number and ms, s, m or h, such as"),
        ("--interval=0s", "'0s' is not a valid interval"),
    ],
)
def test_wrong__values_say_what_is_allowed(tmp_path: Path, argument: str, says: str) -> None:
    """Nothing is written."""
    with pytest.raises(CommandError, match=says):
        write(tmp_path / "folder", argument)
    assert not (tmp_path / "folder").exists()


def test_wrong__folder_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be one is an error that says so."""
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="Choose a directory that you can write to"):
        write(tmp_path / "file")


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")
