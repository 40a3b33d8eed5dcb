"""The rules of grafana/dashboard-linter that apply to Prometheus, under the names they have there.

https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.grafana.model import DASHBOARDS, PANELS, QUERIES, Dashboard, Query, panel_id
from tests.servers.services import require

#: The units of the panels. Grafana has all of them, and shows the name of an unknown unit.
UNITS = {"none", "s", "percentunit", "dateTimeFromNow", "reqps", "cpm", "suffix:x"}
#: Metrics of alerts, which lack the labels of replicas and may lack others.
ALERTS = {"ALERTS", "ALERTS_FOR_STATE"}
#: Variables for labels that most installations do not have.
HIDDEN = ["cluster", "namespace", "environment", "django_project"]
TARGETS = [query for query in QUERIES if not query.where.startswith("$")]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_datasource_rule(dashboard: Dashboard) -> None:
    """The data source is a variable."""
    (variable,) = (v for v in dashboard.variables.values() if v["type"] == "datasource")
    assert (variable["name"], variable["label"]) == ("datasource", "Data source")
    assert variable["query"] == "prometheus"


@pytest.mark.parametrize("name", ["job", "instance"])
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_job_and_instance_rules(dashboard: Dashboard, name: str) -> None:
    """Jobs and instances of the data source can be selected, several or all."""
    variable = dashboard.variables[name]
    assert variable["type"] == "query"
    assert variable["datasource"] == DATASOURCE
    assert variable["label"] == name.title()
    assert (variable["multi"], variable["includeAll"]) == (True, True)
    assert variable["allValue"] == ".+"
    assert variable["current"]["value"] == "$__all"


@pytest.mark.parametrize("name", ["django_app", "maintainer", "severity", *HIDDEN])
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_of_a_label_that_may_be_empty(dashboard: Dashboard, name: str) -> None:
    """Not a rule of the linter: all maintainers include none, which ``.+`` would leave out."""
    variable = dashboard.variables[name]
    assert (variable["multi"], variable["includeAll"]) == (True, True)
    assert variable["allValue"] == ".*"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_label_promql_rule(dashboard: Dashboard) -> None:
    """The variables of both dashboards are label values of this package's metrics."""
    variables = [v for v in dashboard.variables.values() if v["type"] == "query"]
    names = ["job", *HIDDEN, "instance", "django_app", "maintainer", "severity", "test"]
    assert [v["name"] for v in variables] == names[: len(variables)]
    for variable in variables:
        pattern = rf"label_values\(smoketest_\w+(?:{{[^}}]+}})?, {variable['name']}\)"
        assert re.fullmatch(pattern, variable["query"])
        assert variable["datasource"] == DATASOURCE


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_of_environments_is_hidden(dashboard: Dashboard, name: str) -> None:
    """Not a rule of the linter: links set these variables, and others do not need them."""
    assert dashboard.variables[name]["hide"] == 2


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_on_time_change_reload_rule(dashboard: Dashboard) -> None:
    """The values of variables depend on the time range."""
    refresh = {v["name"]: v.get("refresh") for v in dashboard.variables.values()}
    assert {name for name, when in refresh.items() if when != 2} == {"datasource"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_required_variables_rule(dashboard: Dashboard) -> None:
    """Every variable is used in a query, and queries only use existing variables."""
    text = json.dumps([query.expression for query in dashboard.queries])
    for name in dashboard.variables:
        assert name == "datasource" or f"${name}" in text
    for query in dashboard.queries:
        sent = dashboard.interpolate(query.expression, {"test": "x"})
        assert "$" not in sent.replace("$1", "")


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_uneditable_dashboard_rule(dashboard: Dashboard) -> None:
    """Changes in Grafana would be lost, because the files are the source."""
    assert dashboard.json["editable"] is False


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_datasource_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Panels and their queries use the selected data source."""
    assert panel["datasource"] == DATASOURCE
    assert [target["datasource"] for target in panel["targets"]] == [DATASOURCE] * len(
        panel["targets"]
    )


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_panel_datasource_rule__annotations(dashboard: Dashboard) -> None:
    """Annotations use the selected data source."""
    (annotation,) = dashboard.json["annotations"]["list"]
    assert annotation["datasource"] == DATASOURCE


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_title_description_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Panels have a title and a description."""
    assert panel["title"]
    assert panel["description"].endswith((".", ")."))
    assert len(panel["description"]) > len(panel["title"])


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_units_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Panels and columns with numbers have a unit."""
    config = panel["fieldConfig"]
    overridden = [
        p["value"] for o in config["overrides"] for p in o["properties"] if p["id"] == "unit"
    ]
    assert {config["defaults"]["unit"], *overridden} <= UNITS


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_no_targets_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Every panel has queries with unique letters."""
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)


def test_target_promql_rule(tmp_path: Path) -> None:
    """Prometheus can parse every query as Grafana sends it."""
    dashboards = {dashboard.name: dashboard for dashboard in DASHBOARDS}
    rules = [
        {
            "record": f"query:{number}",
            "expr": dashboards[query.dashboard].interpolate(
                query.expression.replace("{}", "") if query.kind == "series" else query.expression,
                {"test": "shop.smoke.T.test_x"},
            ),
        }
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [require("promtool"), "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_target_rate_interval_rule(query: Query) -> None:
    """Rates use the interval that Grafana computes from the scrape interval."""
    for found in re.finditer(r"\b(?:rate|irate|increase)\((?P<of>[^)]*)\)", query.expression):
        assert found["of"].endswith("[$__rate_interval]")
    for selector in query.selectors:
        if selector.range == "[$__rate_interval]":
            assert re.search(rf"\brate\({selector.metric}\{{", query.expression)


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_target_job_and_instance_rules(query: Query) -> None:
    """Every selector uses the selected jobs, instances and environments."""
    assert query.selectors
    for selector in query.selectors:
        absent = "|" if selector.metric in ALERTS else ""
        labels = {"job", "instance", *HIDDEN}
        if selector.metric == "up" or selector.metric.startswith("django_http_"):
            labels.remove("django_project")  # a label of this package's metrics
        if ":" in selector.metric:
            labels.remove("instance")  # a recorded series of a site
        for label in labels:
            suffix = "" if label in HIDDEN else absent
            assert selector.matchers[label] == ("=~", f"${label}{suffix}"), selector


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_target_counter_agg_rule(query: Query) -> None:
    """Counters only occur as rates."""
    for selector in query.selectors:
        if selector.metric.endswith(("_total", "_bucket", "_count", "_sum")):
            assert f"rate({selector.metric}{{" in query.expression
            assert selector.range == "[$__rate_interval]"
