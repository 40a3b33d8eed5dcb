"""Alert rules: unit tests with promtool, and names of metrics, labels and runbooks."""

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

#: The text that `smoketest_assets` replaces to adapt the rules to other replica labels.
REPLICA_LABELS_TEXT = "instance, pod, container, endpoint, node"
#: Labels that distinguish the replicas of a site.
REPLICA_LABELS = set(REPLICA_LABELS_TEXT.split(", "))
#: Labels that identify a site together with its job.
ENVIRONMENT_LABELS = {"cluster", "namespace", "environment", "django_project"}
#: Labels that every metric may have.
TARGET_LABELS = {"job"} | REPLICA_LABELS | ENVIRONMENT_LABELS
#: Metrics that Prometheus adds, with their labels.
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
#: Keys of the annotations of every alert.
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}

OPERATORS = {"and", "or", "unless", "bool", "offset"}


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return its output. Fail if it reports an error."""
    done = subprocess.run(
        [require("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def collected() -> dict[str, set[str]]:
    """Return the labels of each metric of the collector."""
    families = tables.make_collector().collect()
    return {s.name: set(s.labels) for family in families for s in family.samples}


def split(expression: str) -> tuple[set[str], list[tuple[str, set[str]]], set[str]]:
    """Return the metrics of an expression, the labels matched for each, and the grouping labels."""
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
    """Yield the expressions of all rules and the queries in annotations."""
    for rule in GROUP["rules"]:
        yield rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in re.findall(r'printf\s+"([^"]*%q[^"]*)"', text):
                yield query.replace("%q", '""')


# promtool


def test_rules__pass_the_linter() -> None:
    """Promtool reports no problem."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_rules__unit_tests(file: Path) -> None:
    """The unit tests of the rules pass."""
    promtool("test", "rules", file)


def test_unit_tests__cover_the_annotations_of_every_alert() -> None:
    """Each alert has a unit test of all its annotations, once per severity that it sets."""
    seen = set()
    for file in UNIT_TESTS:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for case in group.get("alert_rule_test", ()):
                for alert in case["exp_alerts"]:
                    assert alert["exp_annotations"].keys() == ANNOTATIONS
                    seen.add((case["alertname"], alert["exp_labels"]["severity"]))
    fixed = {(rule["alert"], rule["labels"].get("severity", "critical")) for rule in ALERTS}
    assert fixed <= seen


# Names


def test_split__finds_names_and_labels() -> None:
    """Names of metrics and labels are found, so that the other tests detect a wrong one."""
    names, asked, joined = split(
        'max without (pod) (a:b{c="d e", f!~"g"} offset 5m) + on (h) group_left (i)'
        " rate(j[5m:1m]) unless bool_k >= 1e6 * time()"
    )
    assert names == {"a:b", "j", "bool_k"}
    assert asked == [("a:b", {"c", "f"})]
    assert joined == {"pod", "h", "i"}


def test_metrics__every_name_exists() -> None:
    """Every metric in a rule is exported, recorded, or added by Prometheus."""
    known = collected().keys() | RECORDED.keys() | OF_PROMETHEUS.keys()
    named = set().union(*(split(expression)[0] for expression in expressions()))
    assert len(named & collected().keys()) > 10  # they are found
    assert named - known == set()


def test_metrics__every_recorded_one_is_used() -> None:
    """Every recorded series is used in another rule or in a dashboard."""
    dashboards = "".join(path.read_text() for path in (ROOT / "grafana").glob("dashboards/*.json"))
    of_others = {
        name
        for rule in GROUP["rules"]
        for name in split(rule["expr"])[0]
        if name != rule.get("record")
    }
    assert {name for name in RECORDED if name not in dashboards} <= of_others


def test_labels__every_name_exists() -> None:
    """Every matched label is a label of the metric or of the target."""
    metrics = collected() | OF_PROMETHEUS
    for expression in expressions():
        _, asked, joined = split(expression)
        for name, labels in asked:
            # A recorded series has labels of the metric in its name.
            base = name.split(":")[1] if name in RECORDED else name
            assert labels <= metrics[base] | TARGET_LABELS, expression
        assert joined <= set().union(*metrics.values()) | TARGET_LABELS, expression


def test_annotations__use_existing_labels() -> None:
    """Annotations only use labels of tests and targets, and name the job."""
    known = set().union(*collected().values()) | TARGET_LABELS - REPLICA_LABELS
    for rule in ALERTS:
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known, rule["alert"]
        assert "$labels.job" in texts, rule["alert"]


def test_recorded__names_have_level_metric_and_operation() -> None:
    """Names follow https://prometheus.io/docs/practices/rules/ and the metric is used."""
    for name, rule in RECORDED.items():
        level, metric, operation = name.split(":")
        assert level in {"test", "instance", "job"}
        assert operation
        # For a recorded series, compare with the metric in its name.
        assert metric in {(read.split(":") * 2)[1] for read in split(rule["expr"])[0]}


def test_recorded__names_belong_to_this_package() -> None:
    """No recorded series can have the name of a series in another rule file."""
    assert [name for name in RECORDED if "smoketest" not in name] == []


def test_replica_labels__are_one_text_throughout() -> None:
    """Replacing one text adapts all aggregations to other replica labels."""
    text = RULES.read_text()
    assert text.count(f"# - `{REPLICA_LABELS_TEXT}`") == 1
    lists = re.findall(r"without \(([^)]*)\)", text)
    assert {labels for labels in lists if REPLICA_LABELS & set(re.findall(r"\w+", labels))} == {
        labels for labels in lists if labels.startswith(REPLICA_LABELS_TEXT)
    }
    assert "instance, pod" not in text.replace(REPLICA_LABELS_TEXT, "")


def test_replica_labels__can_be_replaced(tmp_path: Path) -> None:
    """The rules are valid with other replica labels, which no longer reach an alert."""
    adapted = tmp_path / "rules.yml"
    labels = f"{REPLICA_LABELS_TEXT}, host, kubernetes_pod_name, pod_template_hash"
    adapted.write_text(RULES.read_text().replace(REPLICA_LABELS_TEXT, labels))
    promtool("check", "rules", "--lint=all", "--lint-fatal", adapted)
    target = 'job="shop", host="{0}", kubernetes_pod_name="{0}", pod_template_hash="{0}"'
    declared = 'django_app="a", test="t", severity="critical"'
    series = [
        {"series": f"smoketest_test_{metric}{{{target.format(host)}, {declared}}}", "values": value}
        for host in "ab"
        for metric, value in (
            ("success", "0x20"),
            ("consecutive_failures", "1x20"),
            ("timeout_seconds", "1x20"),
        )
    ]
    case = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "10m",
                "exp_samples": [{"labels": '{alertname="SmokeTestFailing"}', "value": 1}],
            }
        ],
    }
    unit_test = tmp_path / "test.yml"
    unit_test.write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]})
    )
    promtool("test", "rules", unit_test)


# Alerts


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__is_complete(rule: dict[str, Any]) -> None:
    """Each alert has a severity, all annotations and a link to its runbook."""
    assert rule["annotations"].keys() == ANNOTATIONS
    assert f"{RUNBOOKS_URL}#{rule['alert'].lower()}" in rule["annotations"]["runbook_url"]
    severity = rule["labels"].get("severity")
    if severity is None:
        assert "severity" in split(rule["expr"])[2]
    else:
        assert severity in set(Severity)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__survives_a_restart_of_prometheus(rule: dict[str, Any]) -> None:
    """`for` is at most a minute, which is shorter than the time until Alertmanager resolves.

    From ten minutes on, Prometheus restores it:
    https://prometheus.io/docs/prometheus/latest/command-line/prometheus/ (for-grace-period).
    """
    hold = seconds(rule["for"])
    assert 0 < hold <= 60 or hold >= 600
    if rule["labels"].get("severity") != "warning":
        assert hold <= 60


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__with_new_labels_fires_after_the_old_one_resolves(rule: dict[str, Any]) -> None:
    """`keep_firing_for` is at most `for` plus the two minutes after which new labels count."""
    if "test:smoketest_test_info:labels" in split(rule["expr"])[0]:
        assert "offset 2m" in RECORDED["test:smoketest_test_info:labels"]["expr"]
        assert seconds(rule.get("keep_firing_for", "0s")) <= seconds(rule["for"]) + 120


def test_alert__has_no_replica_label() -> None:
    """Every alert aggregates the replicas of a site."""
    for rule in ALERTS:
        # Recorded series of a test or a site have none.
        names = split(rule["expr"])[0] - OF_PROMETHEUS.keys()
        assert names
        assert all(name.startswith(("test:", "job:")) for name in names), rule["alert"]
    for name, rule in RECORDED.items():
        if name.startswith(("test:", "job:")):
            sources = [
                read for read in split(rule["expr"])[0] if not read.startswith(("test:", "job:"))
            ]
            assert not sources or split(rule["expr"])[2] >= REPLICA_LABELS, name


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__names_and_selects_the_environment(rule: dict[str, Any]) -> None:
    """Summaries name the environment; queries and links select it, not only the job."""
    annotations = rule["annotations"]
    for label in ENVIRONMENT_LABELS:
        assert f"$labels.{label}" in annotations["summary"], label
        assert f"var-{label}=" in annotations["dashboard_url"], label
    for query in re.findall(r'printf\s+"([^"]*{[^"]*)"', annotations["description"]):
        for selector in re.findall(r"{([^}]*)}", query):
            assert {"job", *ENVIRONMENT_LABELS} - {"django_project"} <= set(
                re.findall(r"(\w+)=", selector)
            ), query
        assert "django_project=%q" in query


# Runbooks


def test_runbooks__one_section_an_alert() -> None:
    """Each alert has a section with its name, and no section lacks its alert."""
    assert sorted(re.findall(r"^## (SmokeTest\w+)$", RUNBOOKS, re.MULTILINE)) == ALERT_NAMES


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_runbooks__section_is_complete(name: str) -> None:
    """Each section has the meaning, the diagnosis, the likely causes and a silence."""
    section = RUNBOOKS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for part in ("Meaning:", "Diagnosis:", "Likely causes:", "Silence:"):
        assert f"**{part}" in section, part
    assert f"alertname={name}" in section


def test_runbooks__every_command_exists() -> None:
    """The management command accepts the options in the runbooks."""
    found = re.findall(r"manage\.py smoketest\b([^`\n]*)", RUNBOOKS)
    assert len(found) > 3
    parser = command.Command().create_parser("", "")
    for arguments in found:
        refuse_wrong_combinations(vars(parser.parse_args(shlex.split(arguments))))


def test_runbooks__queries_use_existing_names() -> None:
    """Expressions in the runbooks only use existing metrics and labels."""
    metrics = collected() | OF_PROMETHEUS
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    for expression in "".join(blocks).splitlines():
        names, asked, joined = split(expression)
        assert names <= metrics.keys(), expression
        assert joined <= set().union(*metrics.values()) | TARGET_LABELS, expression
        for name, labels in asked:
            assert labels <= metrics[name] | TARGET_LABELS, expression
