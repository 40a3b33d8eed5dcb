"""The overview dashboard, which shows the failing tests and since when they fail."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries

from grafana.generator import panels, queries
from grafana.generator.panels import BAD, COLORED_TEXT, GOOD, NEUTRAL, WARNING, Column
from grafana.generator.queries import (
    TARGET_LABELS,
    TEST_LABELS,
    by_replica,
    of_sites,
    of_targets,
    of_tests,
)

UID = "smoketest-overview"
#: The labels of a test in legends. Those that a series lacks are empty.
LEGEND = "{{environment}} {{cluster}} {{namespace}} {{django_project}} {{job}}: {{test}}"

_PAGE = "https://github.com/ccnmtl/django-smoketest/blob/main/docs/runbooks.md"
_ALERTS = (
    "Failing", "Flapping", "Slow", "Stale", "ImportError", "RunsStopped", "NeverRan", "StoreDown",
    "Abandoned", "Paused", "TargetGone",
)  # fmt: skip
#: URL of the section of each alert.
RUNBOOKS = {f"SmokeTest{name}": f"{_PAGE}#smoketest{name.lower()}" for name in _ALERTS}


def dashboard() -> Dashboard:
    """Return the overview dashboard."""
    board = panels.new_dashboard(
        UID,
        "Smoke tests: overview",
        "Results of the smoke tests of your Django sites: which tests fail, and since when.",
    ).variables(list(panels.variables()))
    panels.add(
        board,
        [
            ("", [*tiles(), sites(), alerts(), tests()]),
            ("Over time", [history(), durations(), slowest()]),
            ("Site traffic (django-prometheus)", traffic()),
            ("Sites and replicas", [replicas()]),
        ],
    )
    return board


def tiles() -> panels.Panels:
    """Return the stat panels with the current state."""
    return [
        panels.stat(
            "Status",
            "PASS if no critical test failed in the latest full run of any replica, DOWN if a "
            "replica cannot be scraped. Covers all tests of the site, regardless of the selected "
            "app, maintainer and severity.",
            f"min({queries.status()})",
            mappings=panels.STATUS_TEXTS,
            no_value="no run",
        ),
        panels.count(
            "Failing",
            "Critical tests that failed, errored or timed out in their latest run, on any replica.",
            queries.failing("critical"),
            BAD,
        ),
        panels.count(
            "Warnings",
            "Tests with the severity warning that did not pass in their latest run, on any "
            "replica. They do not fail the run.",
            queries.failing("warning"),
            WARNING,
        ),
        panels.count(
            "Stale",
            "Tests without a result for longer than their maximum age, on any replica. Runs have "
            "stopped, are paused, or end before they reach these tests.",
            queries.stale(),
            WARNING,
        ),
        panels.count(
            "Slow",
            "Tests that reached their slow threshold in their latest run, on any replica.",
            queries.slow(),
            WARNING,
        ),
        panels.count(
            "Never run",
            "Tests that have neither passed nor failed on any replica, usually because they are "
            "always skipped.",
            queries.never_run(),
            NEUTRAL,
        ),
        panels.age(
            "Last run",
            "Time since the last full run, for the replica with the oldest one.",
            f"min({of_sites('smoketest_last_run_timestamp_seconds')})",
        ),
        panels.age(
            "Last success",
            "Time since the last full run that passed, for the replica with the oldest one.",
            f"min({of_sites('smoketest_last_success_timestamp_seconds')})",
        ),
    ]


def test_columns() -> list[Column]:
    """Return the columns that identify a test. The link reads the job from its column."""
    link = panels.test_link("${__value.raw}", "${__data.fields.Job}").build()
    return [
        Column(title="Test", label="test", width=None, settings={"links": [link]}),
        *panels.site_columns(),
        Column(title="Job", label="job", width=80),
    ]


def sites() -> Table:
    """Return the table of sites, the worst status last."""
    some = {"color": {"mode": "thresholds"}, **COLORED_TEXT}
    return panels.table(
        "Sites",
        "Each site with its replicas. DOWN: a replica cannot be scraped, so its results are "
        "missing. Show limits the dashboard to a site, and All sites at the top ends this.",
        [
            Column(title="Job", label="job", width=None),
            *panels.site_columns(),
            Column(
                title="Status",
                expression=queries.of_each_site("min", queries.status()),
                width=120,
                settings={**COLORED_TEXT, "mappings": panels.STATUS_TEXTS},
            ),
            Column(
                title="Replicas", expression=queries.of_each_site("count", queries.up()), width=100
            ),
            Column(title="Up", expression=queries.of_each_site("sum", queries.up()), width=80),
            Column(
                title="Failing tests",
                expression=queries.failing_by_site(),
                width=130,
                settings={**some, "thresholds": panels.threshold_colors(NEUTRAL, (1, BAD)).build()},
            ),
            Column(
                title="Last run",
                expression=queries.oldest_run(),
                unit="dateTimeFromNow",
                width=140,
                settings={"mappings": panels.NO_RUN_TEXTS},
            ),
            panels.site_column(),
        ],
        labels_of=[queries.site_variables()],
        no_value="no sites are scraped",
        height=5,
    )


def tests() -> Table:
    """Return the table of all tests, the worst outcome first."""
    return panels.table(
        "Tests",
        "All tests, sorted by their worst outcome on any replica. Click a test to show its "
        "dashboard, or Page to open it on the site (requires SMOKETEST_PUBLIC_URL).",
        [
            *test_columns(),
            Column(title="App", label="django_app", width=90),
            Column(title="Maintainer", label="maintainer", width=110),
            Column(title="Severity", label="severity", width=95),
            Column(
                title="Outcome",
                expression=queries.outcome(of_tests),
                settings={**COLORED_TEXT, "mappings": panels.OUTCOME_TEXTS},
            ),
            Column(
                title="Failing for",
                expression=queries.failing_for(of_tests),
                unit="s",
                width=110,
                settings={"decimals": 1, "mappings": panels.FAILING_FOR_TEXTS},
            ),
            Column(
                title="Duration",
                expression=queries.duration(of_tests),
                unit="s",
                settings={"decimals": 2},
            ),
            Column(
                title="% of threshold",
                expression=queries.threshold_share(of_tests),
                unit="percentunit",
                width=130,
                settings={
                    "custom.cellOptions": {
                        "type": "gauge",
                        "mode": "basic",
                        "valueDisplayMode": "text",
                    },
                    "color": {"mode": "thresholds"},
                    "decimals": 0,
                    "min": 0,
                    "max": 1,
                    "thresholds": panels.threshold_colors(
                        GOOD, (0.8, "yellow"), (1, WARNING)
                    ).build(),
                },
            ),
            Column(
                title="Last success",
                expression=queries.last_success(of_tests),
                unit="dateTimeFromNow",
                width=120,
                settings={"mappings": panels.NEVER_TEXTS},
            ),
            *panels.link_columns(),
        ],
        labels_of=[queries.declared(of_tests), queries.links(of_tests)],
        sort_by=["Outcome", "Failing for"],
        no_value="no smoke tests found: is /smoketest/metrics scraped?",
        height=11,
    )


def alerts() -> Table:
    """Return the table of firing alerts."""
    return panels.table(
        "Firing alerts",
        "Alerts of the smoke tests that are firing, and since when their condition has been true. "
        "Requires the alert rules of django-smoketest.",
        [
            Column(title="Alert", label="alertname", width=200),
            Column(title="Severity", label="severity", width=100),
            Column(
                title="Since",
                expression=queries.alerts(RUNBOOKS),
                unit="dateTimeFromNow",
                width=140,
            ),
            *test_columns(),
            Column(title="Maintainer", label="maintainer", width=120),
            *panels.link_columns(),
        ],
        sort_by=["Since"],
        no_value="no alerts are firing",
        height=6,
    )


def history() -> StateTimeline:
    """Return the outcomes of all tests over time."""
    return panels.timeline(
        "Outcomes",
        "Worst outcome of each test on any replica over time, regardless of the selected instance. "
        "Annotations mark deployments. Requires the alert rules of django-smoketest.",
        queries.recorded_outcome(of_tests),
        LEGEND,
        height=14,
        rows=15,
    ).data_links([panels.test_link("${__field.labels.test}", "${__field.labels.job}")])


def durations() -> TimeSeries:
    """Return the durations of the slowest tests over time."""
    return panels.timeseries(
        "Durations of the slowest tests",
        "The ten slowest tests of the time range, each on its slowest replica.",
        [panels.range_query(queries.among_slowest(queries.duration(of_tests)), LEGEND)],
        unit="s",
        calcs=("lastNotNull", "mean", "max"),
        width=24,
        height=13,
    )


def slowest() -> Table:
    """Return the table that compares the slowest tests with their thresholds and medians."""
    duration, median = queries.duration(of_tests), queries.weekly_median_of_slowest()
    threshold = queries.by_test(of_tests("smoketest_test_slow_threshold_seconds"))
    ratio = {"color": {"mode": "thresholds"}, **COLORED_TEXT}
    return panels.table(
        "Slowest tests compared with threshold and median",
        "The ten slowest tests: their latest duration as a percentage of their slow threshold, and "
        "as a multiple of their median over the last week.",
        [
            *test_columns(),
            Column(
                title="Duration",
                expression=queries.among_slowest(duration),
                unit="s",
                width=110,
                settings={"decimals": 2},
            ),
            Column(
                title="Threshold",
                expression=queries.among_slowest(threshold),
                unit="s",
                width=110,
                settings={"decimals": 2},
            ),
            Column(
                title="% of threshold",
                expression=queries.among_slowest(queries.threshold_share(of_tests)),
                unit="percentunit",
                width=150,
                settings={
                    **ratio,
                    "decimals": 0,
                    "thresholds": panels.threshold_colors(
                        NEUTRAL, (0.8, "yellow"), (1, WARNING)
                    ).build(),
                },
            ),
            Column(
                title="Weekly median",
                expression=median,
                unit="s",
                width=130,
                settings={"decimals": 2},
            ),
            Column(
                title="vs. median",
                # Durations of less than a millisecond are treated as equal.
                expression=f"{duration} / clamp_min({median}, 0.001)",
                unit="suffix:x",
                width=130,
                settings={
                    **ratio,
                    "decimals": 1,
                    "thresholds": panels.threshold_colors(
                        NEUTRAL, (2, "yellow"), (5, WARNING)
                    ).build(),
                },
            ),
        ],
        sort_by=["Duration"],
        height=10,
    )


def traffic() -> panels.Panels:
    """Return panels that show failing tests next to the site's requests."""
    missing = "django-prometheus is not scraped"
    needs = "Requires django-prometheus, scraped under a selected job."
    by_severity = f"{TEST_LABELS}, severity"
    success = of_tests("smoketest_test_success")
    failing = f"max by ({by_severity}) ({success} == 0)"
    responses = "django_http_responses_total_by_status_total"
    server_errors = of_targets(responses, 'status=~"5.."')
    errors = f"rate({server_errors}[$__rate_interval])"
    buckets = of_targets("django_http_requests_latency_including_middlewares_seconds_bucket")
    latency = f"sum by (le) (rate({buckets}[$__rate_interval]))"
    return [
        panels.timeseries(
            "Failing tests",
            "Tests that did not pass in their latest run on any replica, by severity.",
            [
                panels.range_query(
                    f"count by (severity) ({failing}) or 0 * count by (severity) ({success})",
                    "{{severity}}",
                )
            ],
            unit="none",
            width=6,
            height=9,
        )
        .decimals(0)
        .override_by_name("critical", [panels.color(BAD)])
        .override_by_name("warning", [panels.color(WARNING)]),
        panels.timeseries(
            "Requests",
            f"Request rate of all replicas together. {needs}",
            [
                panels.range_query(
                    f"sum by ({TARGET_LABELS}) (rate({of_targets(responses)}[$__rate_interval]))",
                    "{{job}}",
                )
            ],
            unit="reqps",
            width=6,
            height=9,
            no_value=missing,
        ),
        panels.timeseries(
            "5xx responses",
            f"Rate of responses with a server error, of all replicas together. {needs}",
            [
                panels.range_query(
                    f"sum by ({TARGET_LABELS}) ({errors})"
                    f" or 0 * sum by ({TARGET_LABELS}) "
                    f"(rate({of_targets(responses)}[$__rate_interval]))",
                    "{{job}}",
                )
            ],
            unit="reqps",
            width=6,
            height=9,
            no_value=missing,
        ),
        panels.timeseries(
            "Latency",
            "Duration of requests, including middleware: median, 95th and 99th percentile. "
            f"{needs}",
            [
                panels.range_query(f"histogram_quantile({quantile}, {latency})", name, ref)
                for ref, quantile, name in (
                    ("A", 0.5, "median"),
                    ("B", 0.95, "95th percentile"),
                    ("C", 0.99, "99th percentile"),
                )
            ],
            unit="s",
            width=6,
            height=9,
            no_value=missing,
        ),
    ]


def replicas() -> Table:
    """Return the table of replicas, with their releases and runs."""
    timestamp = by_replica("smoketest_last_run_timestamp_seconds", 0)
    some = {"color": {"mode": "thresholds"}, **COLORED_TEXT}
    return panels.table(
        "Replicas",
        "All replicas of the sites: their release, latest full run and state.",
        [
            Column(title="Job", label="job", width=80),
            *panels.site_columns(),
            Column(title="Instance", label="instance", width=None),
            Column(title="Release", label="release", width=85),
            Column(
                title="Status",
                expression=queries.status(),
                settings={**COLORED_TEXT, "mappings": panels.STATUS_TEXTS},
            ),
            Column(
                title="Last run",
                expression=f"1000 * ({timestamp})",
                unit="dateTimeFromNow",
                width=110,
                settings={"mappings": panels.NO_RUN_TEXTS},
            ),
            Column(
                title="Duration",
                expression=by_replica("smoketest_last_run_duration_seconds", 0),
                unit="s",
                width=90,
                settings={"decimals": 1},
            ),
            Column(title="Tests", expression=by_replica("smoketest_tests", 0), width=70),
            Column(
                title="Import errors",
                expression=by_replica("smoketest_collection_errors", 0),
                width=130,
                settings={**some, "thresholds": panels.threshold_colors(NEUTRAL, (1, BAD)).build()},
            ),
            Column(
                title="Abandoned",
                expression=by_replica("smoketest_abandoned_tests", 0),
                settings={
                    **some,
                    "thresholds": panels.threshold_colors(NEUTRAL, (1, WARNING)).build(),
                },
            ),
            Column(
                title="Runs",
                width=70,
                expression=by_replica("smoketest_paused", 0),
                settings={
                    **COLORED_TEXT,
                    "mappings": panels.texts({0: ("active", NEUTRAL), 1: ("paused", WARNING)}),
                },
            ),
            Column(
                title="Store",
                expression=by_replica("smoketest_results_store_up", 0),
                settings={
                    **COLORED_TEXT,
                    "mappings": panels.texts({1: ("available", NEUTRAL), 0: ("unavailable", BAD)}),
                },
            ),
            Column(title="Django", label="django_version", width=75),
            Column(title="Python", label="python_version", width=75),
            Column(title="Version", label="version", width=80),
        ],
        labels_of=[queries.release()],
        no_value="no sites are scraped",
        height=7,
    )
