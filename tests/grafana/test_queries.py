"""Results of the queries, evaluated by promtool on synthetic series.

Samples are one minute apart. Queries are evaluated at minute 30: `NOW`.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from smoketest.results import Outcome
from tests.grafana.model import OVERVIEW, TEST, Chosen, Dashboard
from tests.servers.services import require

NOW = 1800
NEVER_PASSED = 1e12
#: Values by labels, as in an exposition.
Samples = Mapping[str, float]


class Prometheus:
    """Synthetic series and the expected results of queries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.series: list[dict[str, str]] = []
        self.expected: list[dict[str, Any]] = []

    def add(self, series: str, values: str | float) -> None:
        """Add a series with a constant value, or with values in promtool's notation."""
        notation = values if isinstance(values, str) else f"{values:g}x90"
        self.series.append({"series": series, "values": notation})

    def expect(self, query: str, samples: Samples, at: float = NOW) -> None:
        """Expect exactly these samples at a time in seconds."""
        wanted = [{"labels": labels, "value": value} for labels, value in samples.items()]
        self.expected.append({"expr": query, "eval_time": f"{at:g}s", "exp_samples": wanted})

    def check(self) -> None:
        """Evaluate all expected queries."""
        test = {
            "interval": "1m",
            "input_series": self.series,
            "promql_expr_test": self.expected,
        }
        file = self.folder / "test.yml"
        file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}))
        done = subprocess.run(
            [require("promtool"), "test", "rules", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def add_test(
        self,
        name: str,
        outcome: str = "passed",
        *,
        instance: str = "a",
        severity: str = "critical",
        maintainer: str = "web",
        last_run: float = NOW - 30,
        last_success: float | None = NOW - 30,
        failures: int = 0,
        duration: float = 0.1,
        threshold: float | None = 1,
        url: str = "https://shop/?test",
    ) -> None:
        """Add all series of a test on a replica, as the collector yields them."""
        place = f'job="shop", instance="{instance}", test="{name}"'
        # A label without a value does not exist.
        owner = f', maintainer="{maintainer}"' if maintainer else ""
        labels = f'{place}, django_app="app", severity="{severity}"{owner}'
        values: dict[str, float | None] = {
            "success": {"passed": 1, "skipped": None}.get(outcome, 0),
            "consecutive_failures": failures,
            "last_run_duration_seconds": duration,
            "last_run_timestamp_seconds": last_run,
            "last_success_timestamp_seconds": last_success,
            "slow_threshold_seconds": threshold,
            "timeout_seconds": threshold and 10 * threshold,
            "max_age_seconds": 180,
        }
        for metric, value in values.items():
            if value is not None:
                self.add(f"smoketest_test_{metric}{{{labels}}}", value)
        for other in Outcome:
            self.add(
                f'smoketest_test_outcome{{{labels}, outcome="{other}"}}', float(other == outcome)
            )
        self.add(f'smoketest_test_info{{{place}, url="{url}", runbook_url="https://wiki/"}}', 1)


@pytest.fixture
def prometheus(tmp_path: Path) -> Prometheus:
    """Synthetic series without content."""
    return Prometheus(tmp_path)


def queries(dashboard: Dashboard, title: str, chosen: Chosen | None = None) -> list[str]:
    """Return the queries of a panel as Grafana sends them, for all values unless chosen."""
    targets = dashboard.panel(title)["targets"]
    return [dashboard.interpolate(target["expr"], chosen) for target in targets]


def query(dashboard: Dashboard, title: str, chosen: Chosen | None = None) -> str:
    """Return the query of a panel with a single query."""
    (only,) = queries(dashboard, title, chosen)
    return only


def column(dashboard: Dashboard, title: str, name: str, chosen: Chosen | None = None) -> str:
    """Return the query of a column of a table."""
    panel = dashboard.panel(title)
    (organize,) = (t["options"] for t in panel["transformations"] if t["id"] == "organize")
    refs = [f"Value #{target['refId']}" for target in panel["targets"]]
    (index,) = (i for i, ref in enumerate(refs) if organize["renameByName"].get(ref) == name)
    return queries(dashboard, title, chosen)[index]


def by_test(values: Mapping[str, float]) -> Samples:
    """Return samples of tests of the site."""
    return {f'{{job="shop", test="{test}"}}': value for test, value in values.items()}


def add_all_states(prometheus: Prometheus) -> None:
    """Add two replicas with releases that differ in severity and maintainer of every test."""
    for instance, severity, maintainer in (("a", "critical", "web"), ("b", "warning", "")):

        def add(name: str, outcome: str = "passed", **state: Any) -> None:
            of = {"instance": instance, "severity": severity, "maintainer": maintainer}  # noqa: B023
            prometheus.add_test(name, outcome, **(of | state))

        add("fine", url=f"https://{instance}/")
        add("slow", duration=3)
        add("skipped", "skipped", last_success=None, duration=0)
        add("skipped now", "skipped", last_success=NOW - 900, duration=0)
        add("stale", last_run=NOW - 181, last_success=NOW - 181)
        add("new", "timed_out", last_success=None, failures=3)
        add("module", "errored", last_success=NOW - 600, failures=9, threshold=None)
    prometheus.add_test("half", "failed", last_success=NOW - 300, failures=5)
    prometheus.add_test("half", instance="b")


ALL = ("fine", "slow", "skipped", "skipped now", "stale", "new", "module", "half")
PASSED = {"fine": 0, "slow": 0, "skipped": 1, "skipped now": 1, "stale": 0}


def test_tiles__count_tests_once(prometheus: Prometheus) -> None:
    """Stat panels count each test once, for any number of replicas and releases."""
    add_all_states(prometheus)
    for title, count in {
        "Failing": 3,  # new, module, half
        "Warnings": 2,  # new, module: on the other release
        "Stale": 1,
        "Slow": 1,
        "Never run": 1,
    }.items():
        prometheus.expect(query(OVERVIEW, title), {"{}": count})
    prometheus.check()


def test_tiles__are_0_on_a_healthy_site(prometheus: Prometheus) -> None:
    """A site with results shows 0 instead of no data."""
    prometheus.add_test("fine")
    for title in ("Failing", "Warnings", "Stale", "Slow", "Never run"):
        prometheus.expect(query(OVERVIEW, title), {"{}": 0})
    prometheus.check()


def test_tiles__are_empty_without_results(prometheus: Prometheus) -> None:
    """A site without results does not show 0 failures."""
    prometheus.add('up{job="shop", instance="a"}', 0)
    for title in ("Status", "Failing", "Warnings", "Stale", "Slow", "Never run", "Last run"):
        prometheus.expect(query(OVERVIEW, title), {})
    prometheus.check()


@pytest.mark.parametrize(
    ("chosen", "failing"),
    [
        ({"severity": "warning"}, {"{}": 0}),
        ({"severity": ["critical", "warning"]}, {"{}": 2}),
        ({"maintainer": "ops"}, {"{}": 1}),
        ({"maintainer": "web.ops"}, {}),  # not a regular expression
        ({"maintainer": ["web", "ops"]}, {"{}": 1}),
        ({"instance": "a"}, {"{}": 2}),
        ({"instance": "b"}, {}),
        ({"job": "shop", "django_app": "app"}, {"{}": 2}),
    ],
    ids=str,
)
def test_choice__filters_tests(prometheus: Prometheus, chosen: Chosen, failing: Samples) -> None:
    """Several values match any of them, and all maintainers include none."""
    prometheus.add_test("owned", "failed", maintainer="ops")
    prometheus.add_test("nobody's", "failed", maintainer="")
    prometheus.add_test("hint", severity="warning", maintainer="web/ops")
    prometheus.expect(query(OVERVIEW, "Failing", chosen), failing)
    prometheus.check()


def test_tests__one_row_each(prometheus: Prometheus) -> None:
    """Every column has one value per test, so that Grafana merges them into one row."""
    add_all_states(prometheus)
    of_one = dict.fromkeys(ALL, 0.0)
    for expression in queries(OVERVIEW, "Tests"):
        prometheus.expect(f"0 * count by (job, test) ({expression})", by_test(of_one))
        prometheus.expect(f"count({expression})", {"{}": len(ALL)})
    prometheus.check()


def test_tests__values_of_columns(prometheus: Prometheus) -> None:
    """Columns show the worst outcome, the longest failure and duration, and the oldest success."""
    add_all_states(prometheus)
    nothing = dict.fromkeys(ALL, 0.0)
    expected: dict[str, dict[str, float]] = {
        "Outcome": {**PASSED, "half": 3, "module": 4, "new": 5},
        "Failing for": nothing | {"half": 300, "module": 600, "new": NEVER_PASSED},
        "Duration": dict.fromkeys(ALL, 0.1) | {"slow": 3, "skipped": 0, "skipped now": 0},
        "% of threshold": dict.fromkeys(ALL, 0.1)
        | {"slow": 3, "skipped": 0, "skipped now": 0, "module": 0},
        "Last success": dict.fromkeys(ALL, 1000.0 * (NOW - 30))
        | {
            "half": 1000 * (NOW - 300),
            "module": 1000 * (NOW - 600),
            "skipped now": 1000 * (NOW - 900),
            "stale": 1000 * (NOW - 181),
            "new": 0,
            "skipped": 0,
        },
    }
    for name, values in expected.items():
        prometheus.expect(column(OVERVIEW, "Tests", name), by_test(values))
    prometheus.check()


def test_tests__labels_are_those_of_the_latest_run(prometheus: Prometheus) -> None:
    """With two releases, the labels are those of the replica that ran last."""
    prometheus.add_test("t", severity="critical", last_run=NOW - 60)
    prometheus.add_test("t", instance="b", severity="warning", maintainer="", last_run=NOW - 5)
    declared, links = queries(OVERVIEW, "Tests")[:2]
    labels = '{job="shop", test="t", django_app="app", severity="warning"}'
    prometheus.expect(declared, {labels: NOW - 5})
    links_of_it = '{job="shop", test="t", url="https://shop/?test", runbook_url="https://wiki/"}'
    prometheus.expect(f"0 * {links}".replace(" and on", " + 1 and on", 1), {links_of_it: 1})
    prometheus.check()


def test_slowest__has_a_row_for_each(prometheus: Prometheus) -> None:
    """The table has the ten slowest tests of the time range, with a value in every column."""
    for number in range(12):
        prometheus.add_test(f"t{number:02}", duration=number + 1)
        prometheus.add_test(f"t{number:02}", instance="b", severity="warning", duration=1)
    prometheus.add_test("module", "errored", duration=99, threshold=None)
    slowest = {f"t{number:02}": number + 1.0 for number in range(2, 12)}
    title = "Slowest tests compared with threshold and median"
    expected = {
        "Duration": slowest,
        "Threshold": dict.fromkeys(slowest, 1.0),
        "% of threshold": slowest,
        "Weekly median": slowest,
        "vs. median": dict.fromkeys(slowest, 1.0),
    }
    for name, values in expected.items():
        prometheus.expect(column(OVERVIEW, title, name), by_test(values))
    prometheus.expect(query(OVERVIEW, "Durations of the slowest tests"), by_test(slowest))
    prometheus.check()


def test_replicas__one_row_each(prometheus: Prometheus) -> None:
    """A replica that has not run yet has a row, too."""
    for instance in "ab":
        place = f'job="shop", instance="{instance}"'
        build = 'version="2", django_version="6", python_version="3", release="r"'
        prometheus.add(f"smoketest_build_info{{{place}, {build}}}", 1)
        for metric in ("abandoned_tests", "paused", "results_store_up"):
            prometheus.add(f"smoketest_{metric}{{{place}}}", 1)
    for metric in (
        "smoketest_last_run_success",
        "smoketest_last_run_timestamp_seconds",
        "smoketest_last_run_duration_seconds",
        "smoketest_tests",
        "smoketest_collection_errors",
    ):
        prometheus.add(f'{metric}{{job="shop", instance="a"}}', 1)
    for expression in queries(OVERVIEW, "Replicas"):
        rows = {f'{{job="shop", instance="{instance}"}}': 0.0 for instance in "ab"}
        prometheus.expect(f"0 * count by (job, instance) ({expression})", rows)
        prometheus.expect(f"count({expression})", {"{}": 2})
    for name, (ran, did_not) in {"Status": (1, 2), "Last run": (1000, 0)}.items():
        prometheus.expect(
            column(OVERVIEW, "Replicas", name),
            {'{job="shop", instance="a"}': ran, '{job="shop", instance="b"}': did_not},
        )
    prometheus.check()


def test_one_test__is_one_row(prometheus: Prometheus) -> None:
    """The dashboard of a test shows one value for the test, for any releases."""
    add_all_states(prometheus)
    chosen = {"test": "half"}
    for title, value in {
        "Outcome": 3,
        "Failing for": 300,
        "Consecutive failures": 5,
        "% of threshold": 0.1,
        "Last run": 1000 * (NOW - 30),
        "Last success": 1000 * (NOW - 300),
    }.items():
        prometheus.expect(query(TEST, title, chosen), by_test({"half": value}))
    for name, seconds in {"Slow after": 1, "Timeout": 10, "Maximum age": 180}.items():
        prometheus.expect(column(TEST, "Attributes", name, chosen), by_test({"half": seconds}))
        prometheus.expect(
            column(TEST, "Attributes", name, {"test": "module"}),
            by_test({"module": 180 if name == "Maximum age" else 0}),
        )
    for expression in queries(TEST, "Attributes", chosen):
        prometheus.expect(f"count({expression})", {"{}": 1})
    replicas = {'{job="shop", instance="a"}': 3.0, '{job="shop", instance="b"}': 0.0}
    prometheus.expect(query(TEST, "Outcomes", chosen), replicas)
    prometheus.check()


def deploys() -> str:
    """Return the query of the annotation."""
    (annotation,) = OVERVIEW.json["annotations"]["list"]
    return OVERVIEW.interpolate(annotation["expr"])


def add_release(prometheus: Prometheus, release: str, values: str, *, instance: str = "a") -> None:
    """Add a replica that runs a release as long as there are values; ``_`` is none."""
    place = f'job="shop", instance="{instance}"'
    build = 'version="2", django_version="6", python_version="3"'
    prometheus.add(f'smoketest_build_info{{{place}, {build}, release="{release}"}}', values)


def marks(prometheus: Prometheus, moments: Mapping[float, Iterable[str]]) -> None:
    """Expect marks for exactly these releases, by minute."""
    labels = 'job="shop", version="2", django_version="6", python_version="3"'
    for minute, releases in moments.items():
        samples = {f'{{{labels}, release="{release}"}}': 1.0 for release in releases}
        prometheus.expect(deploys(), samples, at=60 * minute)


def test_deploys__once_for_all_replicas(prometheus: Prometheus) -> None:
    """The first replica of a site with another release is marked, the others are not."""
    add_release(prometheus, "r1", "1x20 stale")
    add_release(prometheus, "r1", "1x25 stale", instance="b")
    add_release(prometheus, "r2", "_x21 1x60")
    add_release(prometheus, "r2", "_x26 1x60", instance="b")
    marks(prometheus, {10: (), 20: (), 21: ["r2"], 22: (), 25: (), 26: (), 27: (), 50: ()})
    prometheus.check()


def test_deploys__a_release_that_comes_back(prometheus: Prometheus) -> None:
    """A rollback is a deployment."""
    add_release(prometheus, "r1", "1x20 stale _x18 1x60")
    add_release(prometheus, "r2", "_x21 1x18 stale")
    marks(prometheus, {20: (), 21: ["r2"], 22: (), 39: (), 40: ["r1"], 41: ()})
    prometheus.check()


def test_deploys__not_the_first_scrape(prometheus: Prometheus) -> None:
    """The first scrape of a site, or the first one after a gap, is not a deployment."""
    add_release(prometheus, "r1", "_x10 1x10 stale _x3 1x10 stale _x30 1x30")
    marks(prometheus, {10: (), 11: (), 25: (), 26: (), 67: (), 68: ()})
    prometheus.check()


RUNBOOKS = "https://github.com/ccnmtl/django-smoketest/blob/main/docs/runbooks.md"


def test_alerts__have_a_time_and_links(prometheus: Prometheus) -> None:
    """Firing alerts have the URLs of their test, or that of the page about the alert."""
    of_test = 'alertname="SmokeTestFailing", job="shop", severity="critical", test="t"'
    of_plain = of_test.replace('"t"', '"plain"')
    of_site = 'alertname="SmokeTestTargetGone", job="shop", severity="critical"'
    others = (
        'alertname="SmokeTestSlow", alertstate="pending", job="shop", severity="warning"',
        'alertname="DiskFull", alertstate="firing", job="shop", severity="critical"',
    )
    prometheus.add_test("t", "failed")
    for alert in (of_test, of_plain, of_site):
        prometheus.add(f'ALERTS{{{alert}, alertstate="firing"}}', 1)
        prometheus.add(f"ALERTS_FOR_STATE{{{alert}}}", 1200)
    for alert in others:
        prometheus.add(f"ALERTS{{{alert}}}", 1)
        prometheus.add(f"ALERTS_FOR_STATE{{{alert.replace('alertstate', 'x')}}}", 1200)
    failing, gone = f"{RUNBOOKS}#smoketestfailing", f"{RUNBOOKS}#smoketesttargetgone"
    links = 'url="https://shop/?test", runbook_url="https://wiki/"'
    samples = {
        f'{{{of_test}, {links}, page="SmokeTestFailing https://wiki/"}}': 1_200_000.0,
        f'{{{of_plain}, runbook_url="{failing}", page="SmokeTestFailing "}}': 1_200_000.0,
        f'{{{of_site}, runbook_url="{gone}", page="SmokeTestTargetGone "}}': 1_200_000.0,
    }
    prometheus.expect(query(OVERVIEW, "Firing alerts"), samples)
    prometheus.expect(query(OVERVIEW, "Firing alerts", {"job": "shop"}), samples)
    prometheus.expect(query(OVERVIEW, "Firing alerts", {"job": "other"}), {})
    prometheus.expect(query(OVERVIEW, "Firing alerts", {"environment": "prod"}), {})
    prometheus.check()


# Sites and environments


def add_replica(prometheus: Prometheus, labels: str, values: str, success: float | None) -> None:
    """Add a replica with its target, whose scrapes fail as soon as it has no values."""
    target = re.sub(r', django_project="\w+"', "", labels)
    up = values.replace("1x", "1x").replace("stale", "0x60")
    prometheus.add(f"up{{{target}}}", up)
    prometheus.add(f'smoketest_build_info{{{labels}, version="2", release="r"}}', values)
    if success is not None:
        prometheus.add(
            f"smoketest_last_run_success{{{labels}}}", values.replace("1", f"{success}", 1)
        )


SHOP = 'job="web", django_project="shop"'
BLOG = 'job="web", django_project="blog"'


def test_sites__dead_one_is_down(prometheus: Prometheus) -> None:
    """A site that cannot be scraped is DOWN, although another site passes."""
    add_replica(prometheus, f'{BLOG}, instance="b"', "1x90", 1)
    add_replica(prometheus, f'{SHOP}, instance="a"', "1x28 stale", 1)
    prometheus.expect(query(OVERVIEW, "Status"), {"{}": -1})
    prometheus.expect(query(OVERVIEW, "Status"), {"{}": 1}, at=1200)
    prometheus.expect(query(OVERVIEW, "Status", {"django_project": "blog"}), {"{}": 1})
    prometheus.expect(query(OVERVIEW, "Status", {"django_project": "shop"}), {"{}": -1})
    shop, blog = f"{{{SHOP}}}", f"{{{BLOG}}}"
    for name, values in {
        "Status": {shop: -1, blog: 1},
        "Replicas": {shop: 1, blog: 1},
        "Up": {shop: 0, blog: 1},
        "Failing tests": {shop: 0, blog: 0},
        "Last run": {shop: 0, blog: 0},
    }.items():
        prometheus.expect(column(OVERVIEW, "Sites", name), values)
    replicas = {f'{{{SHOP}, instance="a"}}': -1.0, f'{{{BLOG}, instance="b"}}': 1.0}
    prometheus.expect(column(OVERVIEW, "Replicas", "Status"), replicas)
    for expression in queries(OVERVIEW, "Replicas"):
        prometheus.expect(f"count({expression})", {"{}": 2})
    prometheus.check()


def test_sites__removed_replica_is_not_down(prometheus: Prometheus) -> None:
    """A replica that is no longer a target has no row."""
    add_replica(prometheus, f'{SHOP}, instance="a"', "1x90", 1)
    prometheus.add('up{job="web", instance="old"}', "1x20 stale")
    prometheus.add(f'smoketest_build_info{{{SHOP}, instance="old"}}', "1x20 stale")
    prometheus.expect(query(OVERVIEW, "Status"), {"{}": 1})
    prometheus.expect(column(OVERVIEW, "Sites", "Replicas"), {f"{{{SHOP}}}": 1})
    prometheus.check()


def test_sites__without_a_run(prometheus: Prometheus) -> None:
    """A site whose tests have not run shows that, and not PASS."""
    add_replica(prometheus, f'{SHOP}, instance="a"', "1x90", None)
    prometheus.expect(query(OVERVIEW, "Status"), {"{}": 2})
    prometheus.expect(column(OVERVIEW, "Sites", "Status"), {f"{{{SHOP}}}": 2})
    prometheus.check()


def test_sites__link_selects_all_labels(prometheus: Prometheus) -> None:
    """The link of a row has a variable for each label that the site has."""
    labels = 'job="web", environment="prod"'
    prometheus.add(f'smoketest_build_info{{{labels}, instance="a"}}', 1)
    variables = queries(OVERVIEW, "Sites")[0]
    link = "&var-job=web&var-environment=prod"
    prometheus.expect(f"max by (variables) ({variables})", {f'{{variables="{link}"}}': 1})
    prometheus.check()


def test_environments__have_their_own_rows(prometheus: Prometheus) -> None:
    """The same test in two environments has two rows, and each can be selected."""
    for environment, outcome in (("prod", "passed"), ("staging", "failed")):
        before = len(prometheus.series)
        prometheus.add_test("t", outcome)
        for series in prometheus.series[before:]:
            series["series"] = series["series"].replace(
                'job="shop"', f'job="shop", environment="{environment}"'
            )
    rows = {
        f'{{job="shop", environment="{name}", test="t"}}': code
        for name, code in (("prod", 0.0), ("staging", 3.0))
    }
    prometheus.expect(column(OVERVIEW, "Tests", "Outcome"), rows)
    prometheus.expect(query(OVERVIEW, "Failing"), {"{}": 1})
    prometheus.expect(query(OVERVIEW, "Failing", {"environment": "prod"}), {"{}": 0})
    prometheus.check()


def test_last_success__is_remembered_by_the_rules(prometheus: Prometheus) -> None:
    """A test that passed before its site lost the results store has not "never passed"."""
    prometheus.add_test("t", "failed", last_success=None)
    memory = "test:smoketest_test_last_success_timestamp_seconds:max"
    prometheus.add(f'{memory}{{job="shop", test="t"}}', NOW - 600)
    prometheus.expect(column(OVERVIEW, "Tests", "Failing for"), by_test({"t": 600}))
    prometheus.expect(column(OVERVIEW, "Tests", "Last success"), by_test({"t": 1000 * (NOW - 600)}))
    prometheus.check()


def test_traffic__no_errors_are_0(prometheus: Prometheus) -> None:
    """Without failed requests, their series is missing and the panel shows 0."""
    place = 'job="shop", instance="a"'
    counter = "django_http_responses_total_by_status_total"
    prometheus.add(f'{counter}{{{place}, status="200"}}', "0+60x90")
    prometheus.expect(query(OVERVIEW, "5xx responses"), {'{job="shop"}': 0})
    prometheus.check()
