"""Names of metrics and labels in queries exist."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from grafana.generator import overview
from smoketest.results import Outcome, Severity
from tests.docs.tables import make_collector
from tests.grafana.model import DASHBOARDS, OVERVIEW, QUERIES, ROOT, Dashboard, Query

#: Labels of targets, and the label of the project.
SCRAPED = frozenset({"job", "instance", "cluster", "namespace", "environment", "django_project"})
#: Labels of firing alerts.
ALERT = SCRAPED | {"alertname", "alertstate", "severity", "maintainer", "test"}
OTHERS: Mapping[str, frozenset[str]] = {
    "ALERTS": ALERT,
    "ALERTS_FOR_STATE": ALERT - {"alertstate"},
    "up": SCRAPED - {"django_project"},
    # Recorded by the rules.
    "test:smoketest_test_last_success_timestamp_seconds:max": SCRAPED | {"test"},
    "test:smoketest_test_outcome:max": SCRAPED | {"test", "django_app", "severity", "maintainer"},
    # Of django-prometheus.
    "django_http_responses_total_by_status_total": SCRAPED | {"status"},
    "django_http_requests_latency_including_middlewares_seconds_bucket": SCRAPED | {"le"},
}
KNOWN: Mapping[str, frozenset[str]] = OTHERS | {
    sample.name: SCRAPED | frozenset(sample.labels)
    for family in make_collector().collect()
    for sample in family.samples
}
#: Words of PromQL in the queries.
WORDS = {
    "and", "bool", "by", "clamp_min", "count", "end", "histogram_quantile", "ignoring",
    "group_left", "label_join", "label_replace", "last_over_time", "max", "max_over_time", "min",
    "offset", "on", "or", "quantile_over_time",
    "rate", "sum", "time", "topk", "unless",
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__names_metrics_and_labels_that_exist(query: Query) -> None:
    """Metrics and labels of this package are those of the collector; others are listed above."""
    assert query.selectors
    for selector in query.selectors:
        assert selector.metric in KNOWN
        assert selector.matchers.keys() <= KNOWN[selector.metric]
    if query.kind == "series":
        (selector,) = query.selectors
        assert query.ref in KNOWN[selector.metric]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__groups_by_labels_that_exist(query: Query) -> None:
    """Grouping labels are labels of a metric in the query."""
    labels = frozenset[str]().union(*(KNOWN[selector.metric] for selector in query.selectors))
    for found in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", query.rest):
        assert set(re.findall(r"\w+", found)) <= labels


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__has_no_other_names(query: Query) -> None:
    """Except for selectors and lists of labels, a query only has words of PromQL."""
    if query.kind == "series":
        return
    rest = re.sub(r"\b(by|on|ignoring|group_left) \([^)]*\)", r"\1", query.rest)
    rest = re.sub(r'"[^"]*"|\[\w+:\w+\]', "", rest)
    words = set(re.findall(r"(?<![\w$])[a-zA-Z_]\w*", rest))
    assert words <= WORDS


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_legends__name_labels_that_the_query_keeps(dashboard: Dashboard) -> None:
    """Legends only use labels that the query keeps."""
    for panel in dashboard.panels:
        for target in panel["targets"]:
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if re.fullmatch(r"test:[\w:]+{[^}]*}", target["expr"]):  # all labels of a test
                kept = [", ".join(KNOWN[target["expr"].partition("{")[0]])]
            for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
                assert any(label in re.findall(r"\w+", labels) for labels in kept)


def test_annotation__names_labels_that_the_query_keeps() -> None:
    """The text of a deployment uses labels of the query."""
    (annotation,) = OVERVIEW.json["annotations"]["list"]
    text = annotation["titleFormat"] + annotation["textFormat"]
    labels = set(re.findall(r"{{(\w+)}}", text)) | set(annotation["tagKeys"].split(","))
    assert labels == KNOWN["smoketest_build_info"] - {"instance", "cluster", "namespace"}


def test_values__exist() -> None:
    """Outcomes and severities in queries exist."""
    asked = {
        (label, value)
        for query in QUERIES
        for selector in query.selectors
        for label, (operator, value) in selector.matchers.items()
        if operator == "=" and selector.metric.startswith("smoketest_") and "$" not in value
    }
    assert asked == {("outcome", o) for o in Outcome} | {("severity", s) for s in Severity}


def test_queries__work_without_rules() -> None:
    """Recorded series, whose names have colons, only add to others, except in one panel."""
    for query in QUERIES:
        for selector in query.selectors:
            if query.where == "Outcomes" and query.dashboard == OVERVIEW.name:
                assert "Requires the alert rules" in OVERVIEW.panel("Outcomes")["description"]
            elif ":" in selector.metric:
                before, _, after = query.expression.partition(selector.metric)
                assert " or " in before, query
                assert " or " in after, query


def test_alerts__are_all_found() -> None:
    """The overview finds all alerts of the rules, and links to their runbooks."""
    rules = (ROOT / "prometheus" / "rules" / "smoketest.yml").read_text()
    alerts = re.findall(r"- alert: (\S+)", rules)
    assert alerts
    looked_for = {
        selector.matchers["alertname"][1]
        for query in QUERIES
        for selector in query.selectors
        if selector.metric in ("ALERTS", "ALERTS_FOR_STATE")
    }
    (pattern,) = looked_for
    assert [alert for alert in alerts if not re.fullmatch(pattern, alert)] == []
    assert set(overview.RUNBOOKS) == set(alerts)
    for name, url in overview.RUNBOOKS.items():
        assert f"runbooks.md#{name.lower()}" in rules
        assert url in rules
