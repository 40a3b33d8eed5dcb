"""Example configuration of Prometheus and Alertmanager, which is valid without changes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.prometheus.test_rules import ALERT_NAMES, ENVIRONMENT_LABELS, promtool
from tests.servers.alertmanager import Alertmanager
from tests.servers.processes import wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.services import require

FOLDER = Path(__file__).resolve().parents[2] / "prometheus"
PROMETHEUS = FOLDER / "prometheus.yml"
ALERTMANAGER = FOLDER / "alertmanager.yml"
GUIDE = FOLDER.parent / "docs" / "monitoring.md"


def amtool(*arguments: str | Path) -> str:
    """Run amtool and return its output. Fail if it reports an error."""
    done = subprocess.run(
        [require("amtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus__is_valid() -> None:
    """Promtool accepts the file, its rules and its token."""
    printed = promtool("check", "config", PROMETHEUS)
    assert "1 rule files found" in printed


def test_alertmanager__is_valid() -> None:
    """Amtool accepts the file."""
    assert "4 receivers" in amtool("check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical", "pager"),
        ("severity=warning", "chat"),
        ("", "chat"),
        ("severity=critical maintainer=payments", "payments-pager"),
        ("severity=warning maintainer=payments", "payments-chat"),
        ("severity=critical maintainer=sales", "pager"),
        ("severity=warning maintainer=sales", "chat"),
    ],
)
def test_alertmanager__routes(labels: str, receiver: str) -> None:
    """Critical alerts go to a pager, others to a chat; a maintainer may have other receivers."""
    alert = ["alertname=SmokeTestFailing", "job=shop", *labels.split()]
    assert amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", *alert).split() == [
        receiver
    ]


def test_alertmanager__inhibitions_match_existing_alerts() -> None:
    """Each side of an inhibition matches the name of an alert in the rules."""
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            for matcher in rule[side]:
                name, operator, value = re.fullmatch(r'(\w+) (=~|!=|=) "(.*)"', matcher).groups()
                if name != "alertname":
                    assert name == "severity"
                    continue
                assert operator in ("=~", "!=", "=")
                # Each alternative matches an alert.
                head, _, choices = value.partition("(")
                for choice in choices.rstrip(")").split("|"):
                    found = [a for a in ALERT_NAMES if re.fullmatch(head + choice, a)]
                    assert found, matcher


def yaml_blocks(first_line: str) -> list[str]:
    """Return the YAML blocks of the guide that start with a line."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith(first_line)]


def write_example(folder: Path, block: str) -> Path:
    """Write a configuration and the files that it names."""
    config = folder / "prometheus.yml"
    config.write_text(block)
    (folder / "smoketest.token").write_text("a-token")
    targets = folder / "targets" / "shop-1.yml"
    targets.parent.mkdir()
    (example,) = yaml_blocks("- targets:")
    targets.write_text(example)
    return config


@pytest.mark.parametrize("block", yaml_blocks("scrape_configs:"))
def test_discovery__examples_are_valid(block: str, tmp_path: Path) -> None:
    """Promtool accepts each example of service discovery in the guide."""
    config = write_example(tmp_path, block)
    command = [require("promtool"), "check", "config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "field kubernetes_sd_configs not found" in done.stderr + done.stdout:
        pytest.skip("this build of Prometheus has no service discovery for Kubernetes")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "discovered", "labels"),
    [
        (
            "kubernetes_sd_configs",
            {
                "__meta_kubernetes_pod_annotation_smoketest_scrape": "true",
                "__meta_kubernetes_pod_annotation_smoketest_port": "8000",
                "__meta_kubernetes_pod_phase": "Running",
                "__meta_kubernetes_pod_ip": "10.1.2.3",
                "__meta_kubernetes_pod_label_app_kubernetes_io_name": "shop",
                "__meta_kubernetes_namespace": "web",
                "__meta_kubernetes_pod_name": "shop-1",
            },
            {"instance": "10.1.2.3:8000", "job": "shop", "namespace": "web", "pod": "shop-1"},
        ),
        (
            "ec2_sd_configs",
            {"__meta_ec2_instance_id": "i-12", "__meta_ec2_tag_environment": "prod"},
            {"instance": "i-12", "job": "shop", "environment": "prod"},
        ),
    ],
)
def test_discovery__examples_label_targets(
    kind: str, discovered: dict[str, str], labels: dict[str, str], tmp_path: Path
) -> None:
    """The relabeling of each example sets the labels of the site and the replica."""
    (scrape,) = (
        yaml.safe_load(block)["scrape_configs"][0]
        for block in yaml_blocks("scrape_configs:")
        if kind in block
    )
    del scrape[kind]
    scrape["static_configs"] = [{"targets": ["10.1.2.3:80"], "labels": discovered}]
    config = write_example(tmp_path, yaml.safe_dump({"scrape_configs": [scrape]}))
    check = ("check", "service-discovery", "--timeout=3s", config, scrape["job_name"])
    (target,) = json.loads(promtool(*check))
    assert {n: v for n, v in target["labels"].items() if not n.startswith("__")} == labels


def test_discovery__has_examples_of_three_kinds() -> None:
    """The guide shows pods in Kubernetes, EC2 instances and files."""
    kinds = {
        key
        for block in yaml_blocks("scrape_configs:")
        for key in yaml.safe_load(block)["scrape_configs"][0]
        if key.endswith("_sd_configs")
    }
    assert kinds == {"kubernetes_sd_configs", "ec2_sd_configs", "file_sd_configs"}


def test_never_scraped__alert_of_the_guide(tmp_path: Path) -> None:
    """The alert in the guide fires for targets that have never exposed the metrics."""
    (rules,) = yaml_blocks("groups:")
    (tmp_path / "rules.yml").write_text(rules)
    series = {
        'up{job="shop", instance="wrong-token"}': "0x60",
        'up{job="shop", instance="down"}': "1x9 0x50",
        'smoketest_build_info{job="shop", instance="down"}': "1x9 stale",
        'up{job="shop", instance="fine"}': "1x60",
        'smoketest_build_info{job="shop", instance="fine"}': "1x60",
        'up{job="other", instance="x"}': "0x60",
    }
    firing = 'ALERTS{alertname="SmokeTestNeverScraped", alertstate="firing", job="shop"'
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in given.items()],
            "promql_expr_test": [
                {
                    "expr": 'ALERTS{alertstate="firing"}',
                    "eval_time": "30m",
                    "exp_samples": [
                        {"labels": f'{firing}{label}, severity="warning"}}', "value": 1}
                    ],
                }
            ],
        }
        for given, label in (
            (series, ', instance="wrong-token"'),
            ({'up{job="other", instance="x"}': "1x60"}, ""),
        )
    ]
    unit_test = tmp_path / "test.yml"
    unit_test.write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", unit_test)


@pytest.mark.parametrize("rule", yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"], ids=str)
def test_alertmanager__inhibits_only_within_a_site(rule: dict[str, list[str]]) -> None:
    """An alert of another site or environment is not inhibited, even if the sites share a job."""
    assert {"job", *ENVIRONMENT_LABELS} <= set(rule["equal"])


def test_alertmanager__groups_by_site() -> None:
    """Sites and environments have separate notifications."""
    group_by = yaml.safe_load(ALERTMANAGER.read_text())["route"]["group_by"]
    assert {"job", *ENVIRONMENT_LABELS} <= set(group_by)


@pytest.mark.e2e
def test_prometheus__starts() -> None:
    """A server starts with the file and evaluates the rules without an error."""
    with Prometheus(config_file=PROMETHEUS) as prometheus:
        rules = prometheus.rules()
        assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(ALERT_NAMES)
        assert {rule.get("lastError", "") for rule in rules} == {""}
        (target,) = wait_for(prometheus.targets, what="the target")
        assert target["scrapeUrl"] == "http://localhost:8000/smoketest/metrics"


@pytest.mark.e2e
def test_alertmanager__starts() -> None:
    """A server starts with the file and has no alerts."""
    with Alertmanager(ALERTMANAGER) as alertmanager:
        assert alertmanager.alerts() == []
