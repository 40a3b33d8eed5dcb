"""`manage.py smoketest_assets`: write configuration for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

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
    "prometheus/operator/alertmanagerconfig.yml",
    "prometheus/operator/dashboards.yml",
    "prometheus/kustomization.yaml",
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
        "          replacement: bookshop-smoketest\n",
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


# Scrape interval


def test_interval__of_two_minutes_is_allowed(tmp_path: Path, settings: Any) -> None:
    """The longest interval, with runs that are as rare, causes no warning."""
    settings.SMOKETEST_INTERVAL = 120
    write(tmp_path, "--interval=2m")
    config = yaml.safe_load(_text(tmp_path, "prometheus/prometheus.yml"))
    assert config["global"]["scrape_interval"] == "2m"


@pytest.mark.parametrize(
    ("interval", "changes", "expected"),
    [
        (
            "90s",
            {},
            "SMOKETEST_INTERVAL is 60 s, but scrapes start the runs, so the tests would run",
        ),
        (
            "90s",
            {},
            " every 90 s. Set SMOKETEST_INTERVAL to 90 or more, or --interval to 60s or le",
        ),
        ("2m", {"SMOKETEST_INTERVAL": 119.5}, " every 120 s"),
        ("60s", {}, ""),
        ("90s", {"SMOKETEST_INTERVAL": 90}, ""),
        ("90s", {"SMOKETEST_INTERVAL": None}, ""),
        ("90s", {"SMOKETEST_RUN_ON_SCRAPE": False}, ""),
    ],
)
def test_interval__longer_than_that_of_the_runs(
    tmp_path: Path, settings: Any, interval: str, changes: dict[str, Any], expected: str
) -> None:
    """A warning, if the tests would run less often than the setting says."""
    for name, value in changes.items():
        setattr(settings, name, value)
    errors = StringIO()
    arguments = (str(tmp_path), f"--interval={interval}")
    call_command("smoketest_assets", *arguments, stdout=StringIO(), stderr=errors)
    assert expected in errors.getvalue()
    assert bool(expected) == bool(errors.getvalue())
    assert files(tmp_path) == FILES


def test_interval__setting_is_invalid(tmp_path: Path, settings: Any) -> None:
    """The message names the setting, and there is no traceback."""
    settings.SMOKETEST_INTERVAL = "soon"
    with pytest.raises(CommandError, match="SMOKETEST_INTERVAL is 'soon'; it must be a number of"):
        write(tmp_path)


# Replica labels

REPLICA_LABELS = "instance,host,pod_template_hash"


@pytest.mark.parametrize("operator", [False, True])
def test_replica_labels__replace_the_list_everywhere(tmp_path: Path, operator: bool) -> None:
    """No expression has one of the default labels left, except instance."""
    arguments = ["--operator"] if operator else []
    write(tmp_path, f"--replica-labels={REPLICA_LABELS}", *arguments)
    path = (
        "prometheus/operator/prometheusrule.yml" if operator else "prometheus/rules/smoketest.yml"
    )
    written = yaml.safe_load(_text(tmp_path, path))
    written = written["spec"] if operator else written
    original = yaml.safe_load(_text(ROOT, "prometheus/rules/smoketest.yml"))
    expressions, originals = _expressions(written), _expressions(original)
    assert len(expressions) == len(originals)
    defaults = ", ".join(assets.REPLICA_LABELS)
    changed = 0
    for expression, before in zip(expressions, originals, strict=True):
        assert not re.search(r"\b(pod|container|endpoint|node)\b", expression), expression
        assert expression == before.replace(defaults, REPLICA_LABELS.replace(",", ", "))
        changed += expression != before
    assert changed > 5


def _expressions(rules: dict[str, Any]) -> list[str]:
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_replica_labels__default(tmp_path: Path) -> None:
    """The default list, given explicitly and with spaces, changes nothing."""
    write(tmp_path)
    told = write(tmp_path, "--replica-labels=instance, pod, container, endpoint, node")
    assert told == "8 files are up to date.\n"


#: Two replicas that differ in other labels than the default ones, on both of which a test fails.
REPLICAS_TEST = """
rule_files: [{rules}]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series: {series}
    promql_expr_test:
      - expr: count(ALERTS{{alertname="SmokeTestFailing", alertstate="firing"}})
        eval_time: 30m
        exp_samples: [{{value: {alerts}}}]
"""


@pytest.mark.parametrize(
    ("arguments", "alerts"), [((), 2), ((f"--replica-labels={REPLICA_LABELS}",), 1)]
)
def test_replica_labels__one_alert_for_all_replicas(
    tmp_path: Path, arguments: tuple[str, ...], alerts: int
) -> None:
    """promtool accepts the rules, and replicas with the labels fire one alert."""
    promtool = require("promtool")
    write(tmp_path, *arguments)
    rules = tmp_path / "prometheus/rules/smoketest.yml"
    subprocess.run([promtool, "check", "rules", str(rules)], check=True, capture_output=True)
    series = []
    for replica in ("a", "b"):
        labels = {"job": "shop", **dict.fromkeys(REPLICA_LABELS.split(","), replica)}
        target = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        test = (
            f'{target}, django_app="shop", test="shop.T.test", severity="critical", maintainer=""'
        )
        series += [
            {"series": f"up{{{target}}}", "values": "1x60"},
            {"series": f"smoketest_build_info{{{target}}}", "values": "1x60"},
            {"series": f"smoketest_run_interval_seconds{{{target}}}", "values": "60x60"},
            {"series": f"smoketest_results_store_up{{{target}}}", "values": "1x60"},
            {"series": f"smoketest_test_success{{{test}}}", "values": "0x60"},
            {"series": f"smoketest_test_timeout_seconds{{{test}}}", "values": "10x60"},
            {"series": f"smoketest_test_consecutive_failures{{{test}}}", "values": "1+1x60"},
            {"series": f"smoketest_test_last_run_timestamp_seconds{{{test}}}", "values": "0+30x60"},
        ]
    path = tmp_path / "test.yml"
    path.write_text(
        REPLICAS_TEST.format(rules=json.dumps(str(rules)), series=json.dumps(series), alerts=alerts)
    )
    done = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Later calls


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
        (
            "--interval=5m",
            "5m is too long; use at most 2m. Prometheus ignores samples that are old",
        ),
        ("--interval=121s", "To run the tests less often, set SMOKETEST_INTERVAL to a longer time"),
        ("--interval=1h", "a scrape starts a run only if one is due"),
        ("--replica-labels=instance,my-host", "'my-host' is not a valid label name"),
        ("--replica-labels=instance,", "'' is not a valid label name"),
        ("--replica-labels=instance,9a", "'9a' is not a valid label name"),
        ("--replica-labels=instance,__address__", "'__address__' is not a valid label name"),
        ("--replica-labels=instance,h\xf6st", "is not a valid label name"),
        ("--replica-labels=instance,test", "'test' identifies a test or a site"),
        ("--replica-labels=instance,django_project", "'django_project' identifies a test or a"),
        ("--replica-labels=instance,job", "'job' identifies a test or a site"),
        ("--replica-labels=host", "the list must contain instance, which is different for each"),
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
