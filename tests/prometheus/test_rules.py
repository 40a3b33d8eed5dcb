"""The rules: their unit tests, and whether all that they name exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoketest.cli.arguments import refuse_wrong_combinations
from smoketest.management.commands import smoketest as command
from smoketest.results import Severity
from tests.docs import tables
from tests.servers.services import require

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "prometheus" / "rules" / "smoketest.yml"
UNIT_TESTS = sorted((ROOT / "prometheus" / "tests").glob("*.yml"))
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
RUNBOOKS_URL = "https://github.com/ccnmtl/django-smoketest/blob/main/docs/runbooks.md"

(GROUP,) = yaml.safe_load(RULES.read_text())["groups"]
RECORDED = {rule["record"]: rule for rule in GROUP["rules"] if "record" in rule}
ALERTS: list[dict[str, Any]] = [rule for rule in GROUP["rules"] if "alert" in rule]
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})

#: Labels that tell replicas of a site from each other.
REPLICA_LABELS = {"instance", "pod", "container", "endpoint", "node"}
#: What Prometheus adds to all metrics, or has of its own: names, and their labels.
TARGET_LABELS = {"job"} | REPLICA_LABELS
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate"}}

OPERATORS = {"and", "or", "unless", "bool", "offset"}


def promtool(*arguments: str | Path) -> str:
    """What promtool prints; it has to succeed."""
    done = subprocess.run(
        [require("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def collected() -> dict[str, set[str]]:
    """The metrics that the collector yields, and the labels of each."""
    families = tables.make_collector().collect()
    return {s.name: set(s.labels) for family in families for s in family.samples}


def split(expression: str) -> tuple[set[str], list[tuple[str, set[str]]], set[str]]:
    """The metrics that an expression names, the labels it asks of each, and those it joins by."""
    rest = re.sub(r'"[^"]*"', '""', expression)
    lists = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
    joined = set(re.findall(r"\w+", " ".join(lists.findall(rest))))
    rest = lists.sub(" ", rest)
    matchers = re.compile(r"([\w:]+)\{([^}]*)\}")
    asked = [
        (name, set(re.findall(r"(\w+)\s*[=!]", text))) for name, text in matchers.findall(rest)
    ]
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", rest)
    names = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)) - OPERATORS
    return names, asked, joined


def expressions() -> Iterator[str]:
    """The expressions of all rules, and the queries in the annotations."""
    for rule in GROUP["rules"]:
        yield rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in re.findall(r'printf\s+"([^"]*)"', text):
                yield query.replace("%q", '""')


# promtool


def test_rules__have_no_lint() -> None:
    """promtool has nothing to say."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_rules__unit_tests(file: Path) -> None:
    """The unit tests of the rules pass."""
    promtool("test", "rules", file)


def test_unit_tests__every_alert_is_seen_in_full() -> None:
    """Every alert, of every severity that it fixes, has a test of all its annotations."""
    seen = set()
    for file in UNIT_TESTS:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for case in group.get("alert_rule_test", ()):
                for alert in case["exp_alerts"]:
                    assert alert["exp_annotations"].keys() == {
                        "summary",
                        "description",
                        "runbook_url",
                    }
                    seen.add((case["alertname"], alert["exp_labels"]["severity"]))
    fixed = {(rule["alert"], rule["labels"].get("severity", "critical")) for rule in ALERTS}
    assert fixed <= seen


# Names


def test_split__finds_names_and_labels() -> None:
    """What an expression names is found, so that a wrong name would be."""
    names, asked, joined = split(
        'max without (pod) (a:b{c="d e", f!~"g"} offset 5m) + on (h) group_left (i)'
        " rate(j[5m:1m]) unless bool_k >= 1e6 * time()"
    )
    assert names == {"a:b", "j", "bool_k"}
    assert asked == [("a:b", {"c", "f"})]
    assert joined == {"pod", "h", "i"}


def test_metrics__every_name_exists() -> None:
    """Every metric in a rule is collected, recorded before, or one of Prometheus itself."""
    known = collected().keys() | RECORDED.keys() | OF_PROMETHEUS.keys()
    named = set().union(*(split(expression)[0] for expression in expressions()))
    assert len(named & collected().keys()) > 10  # they are found
    assert named - known == set()


def test_metrics__every_recorded_one_is_used() -> None:
    """No rule records what nobody reads."""
    of_others = {
        name
        for rule in GROUP["rules"]
        for name in split(rule["expr"])[0]
        if name != rule.get("record")
    }
    assert RECORDED.keys() <= of_others


def test_labels__every_name_exists() -> None:
    """Every label that is asked of a metric is one of its own, or of the target."""
    metrics = collected() | OF_PROMETHEUS
    for expression in expressions():
        _, asked, joined = split(expression)
        for name, labels in asked:
            # A recorded metric keeps the labels of those it is made from.
            base = name.split(":")[1] if name in RECORDED else name
            assert labels <= metrics[base] | TARGET_LABELS, expression
        assert joined <= set().union(*metrics.values()) | TARGET_LABELS, expression


def test_labels__of_annotations_exist() -> None:
    """Annotations read labels that a test or a target has."""
    known = set().union(*collected().values()) | TARGET_LABELS - REPLICA_LABELS
    for rule in ALERTS:
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known, rule["alert"]
        assert "$labels.job" in texts, rule["alert"]


def test_recorded__names_say_level_metric_and_operation() -> None:
    """https://prometheus.io/docs/practices/rules/, of a metric that the expression reads."""
    for name, rule in RECORDED.items():
        level, metric, operation = name.split(":")
        assert level in {"test", "instance", "job"}
        assert operation
        # of a recorded metric it is the one that this is made from
        assert metric in {(read.split(":") * 2)[1] for read in split(rule["expr"])[0]}


# Alerts


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__is_complete(rule: dict[str, Any]) -> None:
    """It waits, has a severity, tells what is wrong, and leads to its runbook."""
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert f"{RUNBOOKS_URL}#{rule['alert'].lower()}" in rule["annotations"]["runbook_url"]
    hold = seconds(rule["for"])
    assert hold > 0
    # else the alert with its old labels would still fire beside the one with the new
    assert seconds(rule.get("keep_firing_for", "0s")) <= hold
    severity = rule["labels"].get("severity")
    if severity is None:
        assert "severity" in split(rule["expr"])[2]
    else:
        assert severity in set(Severity)


def test_alert__no_replica_label_is_left() -> None:
    """Every alert adds up what replicas say."""
    for rule in ALERTS:
        # A recorded metric of a test or job has lost them already.
        names = split(rule["expr"])[0]
        lost = all(name.startswith(("test:", "job:")) for name in names)
        assert lost or split(rule["expr"])[2] >= REPLICA_LABELS, rule["alert"]


# Runbooks


def test_runbooks__one_section_an_alert() -> None:
    """Every alert has a section of its name, and every section is of an alert."""
    assert sorted(re.findall(r"^## (SmokeTest\w+)$", RUNBOOKS, re.MULTILINE)) == ALERT_NAMES


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_runbooks__section_says_all(name: str) -> None:
    """Each states the meaning, the diagnosis, the likely causes and how to silence the alert."""
    section = RUNBOOKS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for part in ("Meaning:", "Diagnosis:", "Likely causes:", "Silence:"):
        assert f"**{part}" in section, part
    assert f"alertname={name}" in section


def test_runbooks__every_command_exists() -> None:
    """The management command takes every option that a runbook gives it."""
    found = re.findall(r"manage\.py smoketest\b([^`\n]*)", RUNBOOKS)
    assert len(found) > 3
    parser = command.Command().create_parser("", "")
    for arguments in found:
        refuse_wrong_combinations(vars(parser.parse_args(shlex.split(arguments))))


def test_runbooks__every_query_is_of_known_names() -> None:
    """The expressions that the runbooks show name metrics and labels that exist."""
    metrics = collected() | OF_PROMETHEUS
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    for expression in "".join(blocks).splitlines():
        names, asked, joined = split(expression)
        assert names <= metrics.keys(), expression
        assert joined <= set().union(*metrics.values()) | TARGET_LABELS, expression
        for name, labels in asked:
            assert labels <= metrics[name] | TARGET_LABELS, expression
