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

#: The units that the panels use; Grafana has them all, of any other it shows the name.
UNITS = {"none", "s", "percentunit", "dateTimeFromNow", "reqps", "cpm", "suffix:x"}
#: Alerts stand for a whole site or for all replicas of it: these labels may be missing.
ALERTS = {"ALERTS", "ALERTS_FOR_STATE"}
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
    """Jobs and instances are chosen from what the data source has, several or all."""
    variable = dashboard.variables[name]
    assert variable["type"] == "query"
    assert variable["datasource"] == DATASOURCE
    assert variable["label"] == name.title()
    assert (variable["multi"], variable["includeAll"]) == (True, True)
    assert variable["allValue"] == ".+"
    assert variable["current"]["value"] == "$__all"


@pytest.mark.parametrize("name", ["django_app", "maintainer", "severity"])
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_of_a_label_that_may_be_empty(dashboard: Dashboard, name: str) -> None:
    """Not a rule of the linter: all maintainers include none, which ``.+`` would leave out."""
    variable = dashboard.variables[name]
    assert (variable["multi"], variable["includeAll"]) == (True, True)
    assert variable["allValue"] == ".*"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_label_promql_rule(dashboard: Dashboard) -> None:
    """The variables of both dashboards are label values of metrics of ours."""
    variables = [v for v in dashboard.variables.values() if v["type"] == "query"]
    names = ["job", "instance", "django_app", "maintainer", "severity", "test"]
    assert [v["name"] for v in variables] == names[: len(variables)]
    for variable in variables:
        pattern = rf"label_values\(smoketest_\w+(?:{{[^}}]+}})?, {variable['name']}\)"
        assert re.fullmatch(pattern, variable["query"])
        assert variable["datasource"] == DATASOURCE


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_on_time_change_reload_rule(dashboard: Dashboard) -> None:
    """What can be chosen depends on the time range."""
    refresh = {v["name"]: v.get("refresh") for v in dashboard.variables.values()}
    assert {name for name, when in refresh.items() if when != 2} == {"datasource"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_template_required_variables_rule(dashboard: Dashboard) -> None:
    """Every variable is used by some query, and every query uses variables that there are."""
    text = json.dumps([query.expression for query in dashboard.queries])
    for name in dashboard.variables:
        assert name == "datasource" or f"${name}" in text
    for query in dashboard.queries:
        assert "$" not in dashboard.interpolate(query.expression, {"test": "x"})


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_uneditable_dashboard_rule(dashboard: Dashboard) -> None:
    """What is changed in Grafana would be lost: the files are the dashboards."""
    assert dashboard.json["editable"] is False


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_datasource_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Every panel, and every query in it, uses the data source that is chosen."""
    assert panel["datasource"] == DATASOURCE
    assert [target["datasource"] for target in panel["targets"]] == [DATASOURCE] * len(
        panel["targets"]
    )


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_panel_datasource_rule__annotations(dashboard: Dashboard) -> None:
    """So does every annotation."""
    (annotation,) = dashboard.json["annotations"]["list"]
    assert annotation["datasource"] == DATASOURCE


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_title_description_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """A panel has a title, and a sentence that says what it shows."""
    assert panel["title"]
    assert panel["description"].endswith((".", ")."))
    assert len(panel["description"]) > len(panel["title"])


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_units_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """A panel says what its numbers are, and so does each column with numbers."""
    config = panel["fieldConfig"]
    overridden = [
        p["value"] for o in config["overrides"] for p in o["properties"] if p["id"] == "unit"
    ]
    assert {config["defaults"]["unit"], *overridden} <= UNITS


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel_no_targets_rule(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Every panel asks for something, under a letter of its own."""
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)


def test_target_promql_rule(tmp_path: Path) -> None:
    """Prometheus can read every query, as Grafana sends it."""
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
    """Rates are taken over the interval that Grafana knows to be long enough."""
    for found in re.finditer(r"\b(?:rate|irate|increase)\((?P<of>[^)]*)\)", query.expression):
        assert found["of"].endswith("[$__rate_interval]")
    for selector in query.selectors:
        if selector.range == "[$__rate_interval]":
            assert re.search(rf"\brate\({selector.metric}\{{", query.expression)


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_target_job_and_instance_rules(query: Query) -> None:
    """Every selector heeds the jobs and instances that are chosen."""
    assert query.selectors
    for selector in query.selectors:
        absent = "|" if selector.metric in ALERTS else ""
        for label in ("job", "instance"):
            assert selector.matchers[label] == ("=~", f"${label}{absent}"), selector


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_target_counter_agg_rule(query: Query) -> None:
    """A counter alone says nothing: it is always made a rate."""
    for selector in query.selectors:
        if selector.metric.endswith(("_total", "_bucket", "_count", "_sum")):
            assert f"rate({selector.metric}{{" in query.expression
            assert selector.range == "[$__rate_interval]"
