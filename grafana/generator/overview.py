"""The dashboard to open when the pager rings: what is broken, and since when."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries

from grafana.generator import panels, queries
from grafana.generator.panels import BAD, COLORED_TEXT, GOOD, QUIET, WORRYING, Column
from grafana.generator.queries import by_replica, of_sites, of_tests

UID = "smoketest-overview"


def dashboard() -> Dashboard:
    """The overview."""
    made = panels.new_dashboard(
        UID,
        "Smoke tests: overview",
        "What the smoke tests of your Django sites say: what is broken, and since when.",
    ).variables(list(panels.variables()))
    panels.add(
        made,
        [
            ("", [*tiles(), tests(), alerts()]),
            ("Over time", [history(), durations(), slowest()]),
            ("Beside the visitors' requests (django-prometheus)", traffic()),
            ("Sites and their replicas", [replicas()]),
        ],
    )
    return made


def tiles() -> panels.Panels:
    """The whole state in eight words and numbers."""
    verdict = panels.texts({1: ("PASS", GOOD), 0: ("FAIL", BAD)})
    return [
        panels.stat(
            "Verdict",
            "PASS if no critical test failed in the latest full run of any replica. Of the whole "
            "site, whatever tests are chosen above.",
            f"min({of_sites('smoketest_last_run_success')})",
            mappings=verdict,
            no_value="no run",
        ),
        panels.count(
            "Failing",
            "Critical tests that failed, errored or timed out when they last ran, on any replica.",
            queries.failing("critical"),
            BAD,
        ),
        panels.count(
            "Warnings",
            "Tests of severity warning that did not pass when they last ran, on any replica. They "
            "do not fail the run.",
            queries.failing("warning"),
            WORRYING,
        ),
        panels.count(
            "Stale",
            "Tests without a result for longer than their maximum age, on any replica: the runs "
            "have stopped, are paused, or are always cut short.",
            queries.stale(),
            WORRYING,
        ),
        panels.count(
            "Slow",
            "Tests that took longer than their own threshold when they last ran.",
            queries.slow(),
            WORRYING,
        ),
        panels.count(
            "Never run",
            "Tests that have neither passed nor failed yet on any replica: always skipped.",
            queries.never_run(),
            WORRYING,
        ),
        panels.age(
            "Last run",
            "Time since the latest full run, on the replica where that is longest ago.",
            f"min({of_sites('smoketest_last_run_timestamp_seconds')})",
        ),
        panels.age(
            "Last success",
            "Time since a full run last passed, on the replica where that is longest ago.",
            f"min({of_sites('smoketest_last_success_timestamp_seconds')})",
        ),
    ]


def test_columns() -> list[Column]:
    """Which test a row is of, with a link that looks the job up in its own column."""
    into_it = panels.to_test("${__value.raw}", "${__data.fields.Job}").build()
    return [
        Column(title="Test", label="test", width=None, settings={"links": [into_it]}),
        Column(title="Job", label="job", width=110),
    ]


def tests() -> Table:
    """Every test, what needs somebody first."""
    return panels.table(
        "Tests",
        "Every test, the worst outcome on any replica first. Click on a test to look into it, on "
        "Page to see it on the site (needs SMOKETEST_PUBLIC_URL).",
        [
            *test_columns(),
            Column(title="App", label="django_app", width=110),
            Column(title="Maintainer", label="maintainer", width=120),
            Column(title="Severity", label="severity", width=100),
            Column(
                title="Outcome",
                expression=queries.outcome(of_tests),
                settings={**COLORED_TEXT, "mappings": panels.OUTCOME_TEXTS},
            ),
            Column(
                title="Failing for",
                expression=queries.failing_for(of_tests),
                unit="s",
                width=120,
                settings={"decimals": 1, "mappings": panels.FAILING_FOR_TEXTS},
            ),
            Column(
                title="Duration",
                expression=queries.duration(of_tests),
                unit="s",
                settings={"decimals": 2},
            ),
            Column(
                title="Of its threshold",
                expression=queries.of_threshold(of_tests),
                unit="percentunit",
                width=190,
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
                        GOOD, (0.8, "yellow"), (1, WORRYING)
                    ).build(),
                },
            ),
            Column(
                title="Last success",
                expression=queries.last_success(of_tests),
                unit="dateTimeFromNow",
                width=140,
                settings={"mappings": panels.NEVER_TEXTS},
            ),
            *panels.link_columns(),
        ],
        labels_of=[queries.declared(of_tests), queries.links(of_tests)],
        sort_by=["Outcome", "Failing for"],
        no_value="no smoke test is known: is /smoketest/metrics scraped?",
        height=11,
    )


def alerts() -> Table:
    """What has gone, or is about to go, to the pager."""
    firing = queries.of_alerts("ALERTS", 'alertstate="firing"')
    return panels.table(
        "Firing alerts",
        "Alerts of the smoke tests that fire now, and since when their cause is there. Needs the "
        "alert rules of django-smoketest.",
        [
            Column(title="Alert", label="alertname", width=300),
            Column(title="Severity", label="severity", width=100),
            Column(
                title="Since",
                expression="1000 * "
                f"({queries.of_alerts('ALERTS_FOR_STATE')} and ignoring (alertstate) {firing})",
                unit="dateTimeFromNow",
                width=160,
            ),
            Column(title="Job", label="job", width=110),
            Column(title="Test", label="test", width=None),
            Column(title="Maintainer", label="maintainer", width=120),
        ],
        sort_by=["Since"],
        no_value="no alert fires",
        height=6,
    )


def history() -> StateTimeline:
    """Every test over time."""
    return panels.timeline(
        "Outcomes",
        "Each test over time, with its worst outcome on any replica. Marks are deploys.",
        queries.outcome(of_tests),
        "{{job}}: {{test}}",
        height=14,
        rows=15,
    ).data_links([panels.to_test("${__field.labels.test}", "${__field.labels.job}")])


def durations() -> TimeSeries:
    """How long the slowest tests took."""
    return panels.timeseries(
        "Durations of the slowest tests",
        "The ten tests that took longest at any moment of the time range, on the slowest replica.",
        [panels.over_time(queries.among_slowest(queries.duration(of_tests)), "{{job}}: {{test}}")],
        unit="s",
        calcs=("lastNotNull", "mean", "max"),
        width=24,
        height=13,
    )


def slowest() -> Table:
    """The same tests against what is expected of them."""
    took, median = queries.duration(of_tests), queries.weekly_median(of_tests)
    threshold = queries.by_test(of_tests("smoketest_test_slow_threshold_seconds"))
    ratio = {"color": {"mode": "thresholds"}, **COLORED_TEXT}
    return panels.table(
        "Slowest tests, against what is expected",
        "The same ten tests: the latest duration as a share of the test's own threshold, and as a "
        "multiple of its median over the last week.",
        [
            *test_columns(),
            Column(
                title="Duration",
                expression=queries.among_slowest(took),
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
                title="Of its threshold",
                expression=queries.among_slowest(queries.of_threshold(of_tests)),
                unit="percentunit",
                width=150,
                settings={
                    **ratio,
                    "decimals": 0,
                    "thresholds": panels.threshold_colors(
                        QUIET, (0.8, "yellow"), (1, WORRYING)
                    ).build(),
                },
            ),
            Column(
                title="Weekly median",
                expression=queries.among_slowest(median),
                unit="s",
                width=130,
                settings={"decimals": 2},
            ),
            Column(
                title="Of its median",
                # Durations below a millisecond are all the same.
                expression=queries.among_slowest(f"{took} / clamp_min({median}, 0.001)"),
                unit="suffix:x",
                width=130,
                settings={
                    **ratio,
                    "decimals": 1,
                    "thresholds": panels.threshold_colors(
                        QUIET, (2, "yellow"), (5, WORRYING)
                    ).build(),
                },
            ),
        ],
        sort_by=["Duration"],
        height=10,
    )


def traffic() -> panels.Panels:
    """Whether visitors notice."""
    missing = "django-prometheus is not scraped"
    needs = "Needs django-prometheus, scraped under a job that is chosen above."
    by_severity = "job, test, severity"
    failing = f"max by ({by_severity}) ({of_tests('smoketest_test_success')} == bool 0)"
    responses = "django_http_responses_total_by_status_total"
    server_errors = of_sites(responses, 'status=~"5.."')
    errors = f"rate({server_errors}[$__rate_interval])"
    buckets = of_sites("django_http_requests_latency_including_middlewares_seconds_bucket")
    latency = f"sum by (le) (rate({buckets}[$__rate_interval]))"
    return [
        panels.timeseries(
            "Failing tests",
            "Tests that did not pass when they last ran, by severity, on any replica.",
            [panels.over_time(f"sum by (severity) ({failing})", "{{severity}}")],
            unit="none",
            width=6,
            height=9,
        )
        .decimals(0)
        .override_by_name("critical", [panels.color(BAD)])
        .override_by_name("warning", [panels.color(WORRYING)]),
        panels.timeseries(
            "Requests",
            f"Requests that the sites answered, of all replicas together. {needs}",
            [
                panels.over_time(
                    f"sum by (job) (rate({of_sites(responses)}[$__rate_interval]))", "{{job}}"
                )
            ],
            unit="reqps",
            width=6,
            height=9,
            no_value=missing,
        ),
        panels.timeseries(
            "5xx responses",
            f"Requests that ended in a server error, of all replicas together. {needs}",
            [
                panels.over_time(
                    f"sum by (job) ({errors})"
                    f" or 0 * sum by (job) (rate({of_sites(responses)}[$__rate_interval]))",
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
            f"Time to answer a request, middleware included: median, 95 % and 99 %. {needs}",
            [
                panels.over_time(f"histogram_quantile({quantile}, {latency})", name, ref)
                for ref, quantile, name in (
                    ("A", 0.5, "median"),
                    ("B", 0.95, "95 %"),
                    ("C", 0.99, "99 %"),
                )
            ],
            unit="s",
            width=6,
            height=9,
            no_value=missing,
        ),
    ]


def replicas() -> Table:
    """Each replica: what it runs, and how its runs go."""
    verdict = panels.texts({1: ("PASS", GOOD), 0: ("FAIL", BAD), 2: ("no run yet", WORRYING)})
    timestamp = by_replica("smoketest_last_run_timestamp_seconds", 0)
    some = {"color": {"mode": "thresholds"}, **COLORED_TEXT}
    return panels.table(
        "Replicas",
        "Each replica of each site: its release, its latest full run, and whether its runs go on.",
        [
            Column(title="Job", label="job", width=120),
            Column(title="Instance", label="instance", width=None),
            Column(title="Release", label="release", width=150),
            Column(
                title="Verdict",
                expression=by_replica("smoketest_last_run_success", 2),
                settings={**COLORED_TEXT, "mappings": verdict},
            ),
            Column(
                title="Last run",
                expression=f"1000 * ({timestamp})",
                unit="dateTimeFromNow",
                width=140,
                settings={"mappings": panels.NEVER_TEXTS},
            ),
            Column(
                title="It took",
                expression=by_replica("smoketest_last_run_duration_seconds", 0),
                unit="s",
                settings={"decimals": 1},
            ),
            Column(title="Tests", expression=by_replica("smoketest_tests", 0), width=80),
            Column(
                title="Import errors",
                expression=by_replica("smoketest_collection_errors", 0),
                width=130,
                settings={**some, "thresholds": panels.threshold_colors(QUIET, (1, BAD)).build()},
            ),
            Column(
                title="Abandoned",
                expression=by_replica("smoketest_abandoned_tests", 0),
                settings={
                    **some,
                    "thresholds": panels.threshold_colors(QUIET, (1, WORRYING)).build(),
                },
            ),
            Column(
                title="Runs",
                expression=by_replica("smoketest_paused", 0),
                settings={
                    **COLORED_TEXT,
                    "mappings": panels.texts({0: ("go on", QUIET), 1: ("paused", WORRYING)}),
                },
            ),
            Column(
                title="Store",
                expression=by_replica("smoketest_results_store_up", 0),
                settings={
                    **COLORED_TEXT,
                    "mappings": panels.texts({1: ("readable", QUIET), 0: ("unreadable", BAD)}),
                },
            ),
            Column(title="Django", label="django_version", width=80),
            Column(title="Python", label="python_version", width=80),
            Column(title="django-smoketest", label="version", width=150),
        ],
        labels_of=[queries.release()],
        no_value="no site is scraped",
        height=7,
    )
