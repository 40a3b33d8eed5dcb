"""Results of all dashboard queries from a real Prometheus that scraped real sites.

At first, a single replica of the example passes. Then parts of it break, and a second replica with
another release joins and passes, until its runs are paused. The tests therefore pass, fail, raise
errors, hang, and are slow, stale and skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_exports import has_django_prometheus
from tests.exporters.test_django_prometheus import require_django_prometheus
from tests.grafana.model import DASHBOARDS, OVERVIEW, QUERIES, ROOT, Chosen, Query
from tests.servers.prometheus import Prometheus
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

#: Settings of the example, with django-prometheus if it is installed.
SETTINGS = """
from shop.settings import *

SMOKETEST_PUBLIC_URL = "https://shop.example"
ROOT_URLCONF = "dashboards_urls"
if {has_django_prometheus}:
    INSTALLED_APPS = ["django_prometheus", *INSTALLED_APPS]
    MIDDLEWARE = [
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        *MIDDLEWARE,
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ]
"""
URLS = """
from django.conf import settings
from django.urls import include, path

urlpatterns = [path("", include("shop.urls"))]
if "django_prometheus" in settings.INSTALLED_APPS:
    urlpatterns.append(path("", include("django_prometheus.urls")))
"""
#: The recorded series of a panel, as in the shipped rules.
(OUTCOME,) = (
    rule
    for rule in yaml.safe_load((ROOT / "prometheus/rules/smoketest.yml").read_text())["groups"][0][
        "rules"
    ]
    if rule.get("record") == "test:smoketest_test_outcome:max"
)
#: Stand-ins for the alert rules: the dashboard only depends on their names.
RULES = {
    "groups": [
        {
            "name": "stand-ins",
            "rules": [
                OUTCOME,
                {
                    "alert": "SmokeTestFailing",
                    "expr": "min without (instance) (smoketest_test_success) == 0",
                },
                {
                    "alert": "SmokeTestPaused",
                    "expr": "max by (job) (smoketest_paused) == 1",
                    "labels": {"severity": "warning"},
                },
            ],
        }
    ]
}
#: Built-in variables of Grafana for a range of one minute in a narrow panel.
BUILT_IN = {"__interval": "2s", "__rate_interval": "8s", "__range": "60s"}
STEP = 2
#: Seconds between the runs; a result is stale after three times as long.
INTERVAL = 4

BROKEN = ("archive", "slow", "warning", "hang")
#: Results of the tests, by the end of their names.
ERRORED = {"ArchiveTest.test_past_years_can_be_read", "ArchiveTest.test_year_can_be_added"}
TIMED_OUT = {"CarrierTest.test_carrier_is_open"}
WARNINGS = {"ReorderTest.test_no_book_is_nearly_sold_out"}
SLOW = {
    "CatalogTest.test_list_page_shows_the_books",
    "CatalogTest.test_search_finds_a_title",
    "CatalogTest.test_search_finds_an_author",
}
SKIPPED = {"MediaTest.test_media_volume_is_mounted"}
#: Number of tests of the example, and of those that only run every ten minutes.
TESTS, SELDOM = 18, 2
IN_DEPTH = "archive.smoke.ArchiveTest.test_year_can_be_added"


class Site(ExampleSite):
    """A replica of the example with its own settings."""

    def __init__(self, release: str) -> None:
        super().__init__(
            # One process: django-prometheus counts for each.
            gunicorn(workers=1, worker_class="gthread", threads=4),
            EXAMPLE_RELEASE=release,
            EXAMPLE_INTERVAL=f"{INTERVAL}",
            EXAMPLE_SLOW_SECONDS="1.1",
        )

    def prepare(self) -> None:
        settings = SETTINGS.format(has_django_prometheus=has_django_prometheus())
        (self.folder / "dashboards_settings.py").write_text(settings)
        (self.folder / "dashboards_urls.py").write_text(URLS)
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        path = os.pathsep.join((str(self.folder), variables["PYTHONPATH"]))
        settings = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "dashboards_settings"}
        return variables | settings


@dataclass(frozen=True)
class History:
    """Prometheus with the scraped samples, and the times of each state."""

    prometheus: Prometheus
    tests: frozenset[str]
    first: str
    second: str
    began: float
    passing: float
    failing: float

    def ask(self, query: Query, at: float, chosen: Chosen | None = None) -> list[dict[str, Any]]:
        """Return the series that Prometheus returns to Grafana, with labels and values."""
        (dashboard,) = (d for d in DASHBOARDS if d.name == query.dashboard)
        chosen = {"test": IN_DEPTH} | dict(chosen or {})
        expression = dashboard.interpolate(query.expression, chosen, BUILT_IN)
        if query.kind == "series":
            labels = self.prometheus.api(
                f"label/{query.ref}/values",
                **{"match[]": expression, "start": f"{self.began}", "end": f"{at}"},
            )
            return [{"metric": {query.ref: label}, "values": []} for label in labels]
        if query.kind == "instant":
            data = self.prometheus.api("query", query=expression, time=f"{at}")
            assert data["resultType"] == "vector"
            return [{**series, "values": [series["value"]]} for series in data["result"]]
        end = at // STEP * STEP  # as Grafana does it
        data = self.prometheus.api(
            "query_range", query=expression, start=f"{end - 60}", end=f"{end}", step=f"{STEP}"
        )
        series: list[dict[str, Any]] = data["result"]
        return series


def write_rules(folder: Path) -> Path:
    path = folder / "rules.yml"
    path.write_text(json.dumps(RULES))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Run the scenario and return its history."""
    first, second = Site("r1"), Site("r2")
    targets = [{"targets": [first.address, second.address]}]
    scrapes = [
        {"job_name": "shop", "metrics_path": "/smoketest/metrics", "static_configs": targets},
        {"job_name": "shop-django", "metrics_path": "/metrics", "static_configs": targets},
    ]
    rules = write_rules(tmp_path_factory.mktemp("rules"))
    config = {"scrape_configs": scrapes, "rule_files": [str(rules)]}
    with ExitStack() as stack:
        stack.enter_context(first)
        tests = frozenset(result["id"] for result in first.run_tests()["results"])
        assert len(tests) == TESTS
        began = time.time()
        prometheus = stack.enter_context(Prometheus(config=config))
        prometheus.wait_for("smoketest_last_run_success == 1")
        prometheus.wait_for("smoketest_runs_total{result='passed'} > 1")
        prometheus.wait_for("min(count_over_time(up[1m])) > 6")  # rates need some samples
        passing = time.time()

        first.break_(*BROKEN)
        first.get("/sales/")
        stack.enter_context(second)
        if has_django_prometheus():  # a rate needs a sample from before the second error
            prometheus.wait_for("django_http_responses_total_by_status_total{status='500'} == 1")
        first.get("/sales/")
        prometheus.wait_for(f"count(smoketest_test_success) == {2 * len(tests) - 2 * len(SKIPPED)}")
        second.manage("smoketest", "--pause", "10m", "--reason", "to grow stale")
        prometheus.wait_for("smoketest_paused == 1")
        failing = "count(smoketest_test_success == 0) == 4 and on () ALERTS{alertname=~'.*Paused'}"
        prometheus.wait_for(failing)
        # The hanging test is not started again, so its duration is 0.
        prometheus.wait_for(
            "smoketest_test_last_run_duration_seconds == 0 and on (test) "
            "smoketest_test_outcome{outcome='timed_out'} == 1"
        )
        stale = f"time() - smoketest_test_last_run_timestamp_seconds > {3 * INTERVAL + 0.5}"
        prometheus.wait_for(
            f"count({stale} and on (instance) smoketest_paused == 1) == {len(tests)}"
        )
        yield History(prometheus, tests, first.address, second.address, began, passing, time.time())


@dataclass(frozen=True)
class Expected:
    """Expected result of a query."""

    #: Number of series.
    series: int = 1
    #: Last value of each series, if it is known.
    value: float | None = None
    #: Reason for an empty result.
    reason: str = ""


ONE, BOTH, TEN, EACH = Expected(1), Expected(2), Expected(10), Expected(TESTS)
UNUSED = Expected(0, reason="the targets lack this label")

#: Expected results by panel, variable or annotation, and by letter if its queries differ.
OF_PANELS: Mapping[str, tuple[Expected, Expected]] = {
    # The overview: while all tests pass, and after.
    "Status": (Expected(value=1), Expected(value=0)),
    "Failing": (Expected(value=0), Expected(value=len(ERRORED | TIMED_OUT))),
    "Warnings": (Expected(value=0), Expected(value=len(WARNINGS))),
    "Stale": (Expected(value=0), Expected(value=TESTS - SELDOM)),
    "Slow": (Expected(value=0), Expected(value=len(SLOW))),
    "Never run": (Expected(value=len(SKIPPED)), Expected(value=len(SKIPPED))),
    "Sites": (ONE, ONE),
    "Tests": (EACH, EACH),
    "Firing alerts": (
        Expected(0, reason="all tests pass"),
        Expected(1 + len(ERRORED | TIMED_OUT | WARNINGS)),
    ),
    "Durations of the slowest tests": (TEN, TEN),
    "Slowest tests compared with threshold and median": (TEN, TEN),
    "Failing tests": (BOTH, BOTH),
    "Requests": (ONE, ONE),
    "5xx responses": (Expected(value=0), ONE),
    "Latency": (ONE, ONE),
    "Replicas": (ONE, BOTH),
    "$job": (ONE, ONE),
    "$cluster": (UNUSED, UNUSED),
    "$namespace": (UNUSED, UNUSED),
    "$environment": (UNUSED, UNUSED),
    "$django_project": (UNUSED, UNUSED),
    # Prometheus answers from more than the time range.
    "$instance": (BOTH, BOTH),
    "$django_app": (Expected(4), Expected(4)),
    "$maintainer": (Expected(6), Expected(6)),
    "$severity": (BOTH, BOTH),
    "Deploys": (Expected(0, reason="the first release existed from the start"), ONE),
    # The dashboard of a test that finally raises an error.
    "Outcome": (Expected(value=0), Expected(value=4)),
    "Failing for": (Expected(value=0), ONE),
    "Consecutive failures": (Expected(value=0), ONE),
    "% of threshold": (ONE, ONE),
    "Last run": (ONE, ONE),
    "Last success": (ONE, ONE),
    "Attributes": (ONE, ONE),
    "Duration A": (ONE, BOTH),
    "Duration": (ONE, ONE),
    "Runs by outcome": (Expected(6), Expected(6)),
    "Consecutive failures over time": (ONE, BOTH),
    "$test": (EACH, EACH),
    # In both dashboards: of every test, or of one test on each replica.
    "smoketest-overview: Outcomes A": (EACH, EACH),
    "smoketest-test: Outcomes A": (ONE, BOTH),
}
OF_DJANGO = {"Requests", "5xx responses", "Latency"}


def expected(query: Query) -> tuple[Expected, Expected]:
    """Return the expected results while all tests pass, and after."""
    keys = (str(query), f"{query.where} {query.ref}", query.where)
    return next(OF_PANELS[key] for key in keys if key in OF_PANELS)


@pytest.mark.parametrize("state", ["passing", "failing"])
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query__returns_expected_series(history: History, query: Query, state: str) -> None:
    """Each query returns the expected number of series, and the expected value."""
    if query.where in OF_DJANGO:
        require_django_prometheus()
    wanted = expected(query)[state == "failing"]
    found = history.ask(query, getattr(history, state))
    labels = [series["metric"] for series in found]
    assert len(found) == wanted.series, labels
    assert found or wanted.reason
    values = [float(series["values"][-1][1]) for series in found if series["values"]]
    if wanted.value is not None:
        assert values == [wanted.value]
    assert all(value >= 0 for value in values)  # no NaN either
    if wanted is EACH:
        assert {label["test"] for label in labels} == history.tests


def rows(history: History, title: str, at: float, chosen: Chosen | None = None) -> list[Any]:
    """Return the rows of a table, merged by the labels that all queries share, as in Grafana."""
    queries = [q for q in OVERVIEW.queries if q.where == title]
    frames = [history.ask(query, at, chosen) for query in queries]
    keys = set.intersection(*(set(frame[0]["metric"]) for frame in frames))
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for query, frame in zip(queries, frames, strict=True):
        for series in frame:
            row = merged.setdefault(tuple(series["metric"][key] for key in sorted(keys)), {})
            row |= series["metric"] | {f"Value #{query.ref}": float(series["values"][-1][1])}
    (organize,) = (
        t["options"] for t in OVERVIEW.panel(title)["transformations"] if t["id"] == "organize"
    )
    names = organize["renameByName"]
    return [{names[key]: row[key] for key in names if key in row} for row in merged.values()]


def test_tests__rows_are_complete(history: History) -> None:
    """Each row shows the labels, the outcome and the links of a test."""
    table = {row["Test"]: row for row in rows(history, "Tests", history.failing)}
    assert table.keys() == history.tests

    def ending(names: set[str]) -> set[str]:
        return {test for test in history.tests if any(test.endswith(f".{n}") for n in names)}

    outcomes = {test: row["Outcome"] for test, row in table.items()}
    assert outcomes == {
        test: 5 if test in ending(TIMED_OUT)
        else 4 if test in ending(ERRORED)
        else 3 if test in ending(WARNINGS)
        else 1 if test in ending(SKIPPED)
        else 0
        for test in history.tests
    }  # fmt: skip
    broken = {test for test, row in table.items() if row["Failing for"] > 0}
    assert broken == ending(ERRORED | TIMED_OUT | WARNINGS)
    assert all(table[test]["Failing for"] < history.failing - history.began for test in broken)
    assert {test for test, row in table.items() if row["% of threshold"] >= 1} == ending(SLOW)
    assert {test for test, row in table.items() if row["Last success"] == 0} == ending(SKIPPED)

    row = table[IN_DEPTH]
    assert (row["Job"], row["App"], row["Maintainer"], row["Severity"]) == (
        "shop",
        "archive",
        "accounting",
        "critical",
    )
    assert row["Page"] == f"https://shop.example/smoketest/test/{IN_DEPTH}/"
    assert row["Runbook"] == "https://wiki.example.com/runbooks/archive"


def test_replicas__one_row_each(history: History) -> None:
    """Each replica has a row with its release and state."""
    table = {row["Instance"]: row for row in rows(history, "Replicas", history.failing)}
    seen = {
        instance: (row["Release"], row["Status"], row["Runs"], row["Store"], row["Tests"])
        for instance, row in table.items()
    }
    tests = len(history.tests)
    assert seen == {
        history.first: ("r1", 0, 0, 1, tests),
        history.second: ("r2", 1, 1, 1, tests),
    }
    assert table[history.first]["Abandoned"] == 1


def test_choice__of_one_replica(history: History) -> None:
    """The dots in an address are escaped, and other replicas do not count."""
    (stale,) = (q for q in OVERVIEW.queries if q.where == "Stale")
    (failing,) = (q for q in OVERVIEW.queries if q.where == "Failing")
    for instance, counts in {history.first: ("0", "3"), history.second: ("16", "0")}.items():
        chosen = {"job": "shop", "instance": [instance, "127x0x0x1:1"]}
        found = [history.ask(query, history.failing, chosen) for query in (stale, failing)]
        assert tuple(series["value"][1] for (series,) in found) == counts
        assert len(rows(history, "Tests", history.failing, chosen)) == len(history.tests)


def test_deploy__is_marked_once(history: History) -> None:
    """The deployment of the second release has one annotation."""
    (deploys,) = (q for q in OVERVIEW.queries if q.where == "Deploys")
    (series,) = history.ask(deploys, history.failing)
    assert (series["metric"]["job"], series["metric"]["release"]) == ("shop", "r2")
    ((moment, _),) = series["values"]
    assert history.passing < moment < history.failing


def test_history__shows_the_change(history: History) -> None:
    """The timeline of a test changes from passed to errored once."""
    (outcomes,) = (q for q in OVERVIEW.queries if q.where == "Outcomes")
    (series,) = (
        series
        for series in history.ask(outcomes, history.failing)
        if series["metric"]["test"] == IN_DEPTH
    )
    states = [value for _, value in series["values"]]
    assert (states[0], states[-1]) == ("0", "4")
    assert states == sorted(states)


def test_traffic__shows_server_errors(history: History) -> None:
    """The dashboard shows the responses with status 500 of a page without its database."""
    require_django_prometheus()
    (errors,) = (q for q in OVERVIEW.queries if q.where == "5xx responses")
    (series,) = history.ask(errors, history.failing)
    assert max(float(value) for _, value in series["values"]) > 0


def test_sites__one_row(history: History) -> None:
    """The site has one row for its two replicas, with the worst status."""
    (row,) = rows(history, "Sites", history.failing)
    assert (row["Job"], row["Status"], row["Replicas"], row["Up"]) == ("shop", 0, 2, 2)
    assert row["Failing tests"] == len(ERRORED | TIMED_OUT | WARNINGS)
    assert row["Only"] == "&var-job=shop"
