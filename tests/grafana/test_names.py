"""Every metric and label that a query names is there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from smoketest.results import Outcome, Severity
from tests.docs.tables import make_collector
from tests.grafana.model import DASHBOARDS, OVERVIEW, QUERIES, ROOT, Dashboard, Query

#: Labels of every metric that Prometheus scrapes.
SCRAPED = frozenset({"job", "instance"})
#: What Prometheus makes of firing alerts; they have the labels of their series, more or fewer.
ALERT = SCRAPED | {"alertname", "alertstate", "severity", "maintainer", "test"}
OTHERS: Mapping[str, frozenset[str]] = {
    "ALERTS": ALERT,
    "ALERTS_FOR_STATE": ALERT - {"alertstate"},
    # Of django-prometheus.
    "django_http_responses_total_by_status_total": SCRAPED | {"status"},
    "django_http_requests_latency_including_middlewares_seconds_bucket": SCRAPED | {"le"},
}
KNOWN: Mapping[str, frozenset[str]] = OTHERS | {
    sample.name: SCRAPED | frozenset(sample.labels)
    for family in make_collector().collect()
    for sample in family.samples
}
#: The words of PromQL that the queries use.
WORDS = {
    "and", "bool", "by", "clamp_min", "count", "end", "histogram_quantile", "ignoring",
    "last_over_time", "max", "max_over_time", "min", "offset", "on", "or", "quantile_over_time",
    "rate", "sum", "time", "topk", "unless",
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__names_metrics_and_labels_that_exist(query: Query) -> None:
    """Of ours as the Collector yields them, of others as they are known."""
    assert query.selectors
    for selector in query.selectors:
        assert selector.metric in KNOWN
        assert selector.matchers.keys() <= KNOWN[selector.metric]
    if query.kind == "series":
        (selector,) = query.selectors
        assert query.ref in KNOWN[selector.metric]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__groups_by_labels_that_exist(query: Query) -> None:
    """What a query sums up or joins by is a label of a metric in it."""
    labels = frozenset[str]().union(*(KNOWN[selector.metric] for selector in query.selectors))
    for found in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", query.rest):
        assert set(re.findall(r"\w+", found)) <= labels


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__has_no_other_names(query: Query) -> None:
    """What is no selector and no list of labels is PromQL: no metric hides without its braces."""
    if query.kind == "series":
        return
    rest = re.sub(r"\b(by|on|ignoring) \([^)]*\)", r"\1", query.rest)
    words = set(re.findall(r"(?<![\w$])[a-zA-Z_]\w*", rest))
    assert words <= WORDS


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_legends__name_labels_that_the_query_keeps(dashboard: Dashboard) -> None:
    """A legend shows labels that are left after the query has summed up."""
    for panel in dashboard.panels:
        for target in panel["targets"]:
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
                assert any(label in re.findall(r"\w+", labels) for labels in kept)


def test_annotation__names_labels_that_the_query_keeps() -> None:
    """The text of a deploy is made of its labels."""
    (annotation,) = OVERVIEW.json["annotations"]["list"]
    text = annotation["titleFormat"] + annotation["textFormat"]
    labels = set(re.findall(r"{{(\w+)}}", text)) | set(annotation["tagKeys"].split(","))
    assert labels == KNOWN["smoketest_build_info"] - {"instance"}


def test_values__exist() -> None:
    """An outcome or severity that a query asks for is one."""
    asked = {
        (label, value)
        for query in QUERIES
        for selector in query.selectors
        for label, (operator, value) in selector.matchers.items()
        if operator == "=" and selector.metric.startswith("smoketest_") and "$" not in value
    }
    assert asked == {("outcome", o) for o in Outcome} | {("severity", s) for s in Severity}


def test_queries__need_no_rules() -> None:
    """The dashboards work without recording rules, whose names have colons."""
    assert not [query for query in QUERIES if ":" in "".join(s.metric for s in query.selectors)]


def test_alerts__are_all_found() -> None:
    """The names of the alert rules are those that the overview looks for."""
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
