"""The example configuration of Prometheus and Alertmanager: it runs as it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.prometheus.test_rules import ALERT_NAMES, promtool
from tests.servers.alertmanager import Alertmanager
from tests.servers.processes import wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.services import require

FOLDER = Path(__file__).resolve().parents[2] / "prometheus"
PROMETHEUS = FOLDER / "prometheus.yml"
ALERTMANAGER = FOLDER / "alertmanager.yml"


def amtool(*arguments: str | Path) -> str:
    """What amtool prints; it has to succeed."""
    done = subprocess.run(
        [require("amtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus__is_valid() -> None:
    """promtool accepts it, with the rules and the token that it names."""
    printed = promtool("check", "config", PROMETHEUS)
    assert "1 rule files found" in printed


def test_alertmanager__is_valid() -> None:
    """amtool accepts it."""
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
    """Critical alerts call someone, others do not; a maintainer may have receivers of its own."""
    alert = ["alertname=SmokeTestFailing", "job=shop", *labels.split()]
    assert amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", *alert).split() == [
        receiver
    ]


def test_alertmanager__inhibitions_are_of_alerts_that_exist() -> None:
    """Each side of an inhibition matches an alert of the rules by its name."""
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            for matcher in rule[side]:
                name, operator, value = re.fullmatch(r'(\w+) (=~|!=|=) "(.*)"', matcher).groups()
                if name != "alertname":
                    assert name == "severity"
                    continue
                assert operator in ("=~", "!=", "=")
                # every alternative by itself
                head, _, choices = value.partition("(")
                for choice in choices.rstrip(")").split("|"):
                    found = [a for a in ALERT_NAMES if re.fullmatch(head + choice, a)]
                    assert found, matcher


@pytest.mark.e2e
def test_prometheus__starts() -> None:
    """A server starts with this very file, and evaluates the rules without an error."""
    with Prometheus(config_file=PROMETHEUS) as prometheus:
        rules = prometheus.rules()
        assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(ALERT_NAMES)
        assert {rule.get("lastError", "") for rule in rules} == {""}
        (target,) = wait_for(prometheus.targets, what="the target")
        assert target["scrapeUrl"] == "http://localhost:8000/smoketest/metrics"


@pytest.mark.e2e
def test_alertmanager__starts() -> None:
    """A server starts with this very file, and has nothing to tell."""
    with Alertmanager(ALERTMANAGER) as alertmanager:
        assert alertmanager.alerts() == []
