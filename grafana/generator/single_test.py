"""The dashboard of a single test."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.generator import panels, queries
from grafana.generator.panels import BAD, GOOD, WARNING, Column
from grafana.generator.queries import of_one_test, of_tests

UID = "smoketest-test"
SITE_LEGEND = "{{environment}} {{cluster}} {{namespace}} {{django_project}} {{job}}"


def dashboard() -> Dashboard:
    """Return the dashboard of a single test."""
    outcomes = of_tests("smoketest_test_outcome")
    board = panels.new_dashboard(
        UID,
        "Smoke tests: single test",
        "Outcomes, durations and attributes of a single smoke test.",
    ).variables([*panels.variables(), panels.single_variable("test", "Test", outcomes)])
    panels.add(
        board,
        [
            ("", [*tiles(), declaration()]),
            ("Over time", [history(), durations(), runs(), streak()]),
        ],
    )
    return board


def tiles() -> panels.Panels:
    """Return the stat panels with the current state of the test."""
    failures = of_one_test("smoketest_test_consecutive_failures")
    return [
        panels.stat(
            "Outcome",
            "Outcome of the latest run of the test, the worst of all replicas.",
            queries.outcome(of_one_test),
            mappings=panels.OUTCOME_TEXTS,
            width=4,
            legend=SITE_LEGEND,
        ),
        panels.stat(
            "Failing for",
            "Time since the last success, for the failing replica with the oldest one.",
            queries.failing_for(of_one_test),
            unit="s",
            decimals=1,
            thresholds=panels.threshold_colors(GOOD, (0.001, BAD)),
            mappings=panels.FAILING_FOR_TEXTS,
            width=4,
            legend=SITE_LEGEND,
        ),
        panels.stat(
            "Consecutive failures",
            "Number of consecutive runs in which the test failed, the highest of all replicas. "
            "Skipped runs are ignored.",
            queries.by_test(failures),
            thresholds=panels.threshold_colors(GOOD, (1, BAD)),
            width=4,
            legend=SITE_LEGEND,
        ),
        panels.stat(
            "% of threshold",
            "Latest duration as a percentage of the slow threshold, on the slowest replica.",
            queries.threshold_share(of_one_test),
            unit="percentunit",
            thresholds=panels.threshold_colors(GOOD, (0.8, "yellow"), (1, WARNING)),
            width=4,
            legend=SITE_LEGEND,
        ),
        panels.stat(
            "Last run",
            "Time of the latest run of the test, for the replica with the oldest one.",
            queries.last_run(of_one_test),
            unit="dateTimeFromNow",
            width=4,
            legend=SITE_LEGEND,
        ),
        panels.stat(
            "Last success",
            "Time of the last success of the test, for the replica with the oldest one.",
            queries.last_success(of_one_test),
            unit="dateTimeFromNow",
            mappings=panels.NEVER_TEXTS,
            width=4,
            legend=SITE_LEGEND,
        ),
    ]


def declaration() -> Table:
    """Return the table of the test's attributes."""

    def seconds(title: str, metric: str) -> Column:
        return Column(
            title=title,
            expression=f"{queries.by_test(of_one_test(metric))} or {queries.zero(of_one_test)}",
            unit="s",
            width=120,
            settings={"mappings": panels.texts({0: ("none", panels.NEUTRAL)})},
        )

    return panels.table(
        "Attributes",
        "Attributes of the test, on the replica where it ran last. A module that cannot be "
        "imported has no timeout and no slow threshold. No test has a maximum age if "
        "SMOKETEST_INTERVAL is None.",
        [
            Column(title="Test", label="test", width=None),
            *panels.site_columns(),
            Column(title="Job", label="job", width=120),
            Column(title="App", label="django_app", width=120),
            Column(title="Severity", label="severity", width=100),
            Column(title="Maintainer", label="maintainer", width=140),
            seconds("Slow after", "smoketest_test_slow_threshold_seconds"),
            seconds("Timeout", "smoketest_test_timeout_seconds"),
            seconds("Maximum age", "smoketest_test_max_age_seconds"),
            *panels.link_columns(),
        ],
        labels_of=[queries.declared(of_one_test), queries.links(of_one_test)],
        height=4,
    )


def history() -> StateTimeline:
    """Return the outcomes of the test over time, by replica."""
    return panels.timeline(
        "Outcomes",
        "Outcome of the test over time, on each replica. Annotations mark deployments.",
        queries.outcome(of_one_test, by=queries.REPLICA_LABELS),
        "{{instance}}",
        height=7,
        rows=8,
    )


def durations() -> TimeSeries:
    """Return the duration over time, with the threshold, the timeout and the median."""
    own_durations = of_one_test("smoketest_test_last_run_duration_seconds")
    lines = {
        "slow threshold": (
            f"max({of_one_test('smoketest_test_slow_threshold_seconds')})",
            WARNING,
        ),
        "timeout": (f"max({of_one_test('smoketest_test_timeout_seconds')})", BAD),
        "weekly median": (f"max({queries.weekly_median(of_one_test)})", "blue"),
    }
    panel = panels.timeseries(
        "Duration",
        "Duration of the test on each replica, with its slow threshold, its timeout and its median "
        "over the last week. The scale is logarithmic.",
        [
            # A logarithmic scale has no 0, which is the duration of a skipped test.
            panels.range_query(
                f"max by ({queries.REPLICA_LABELS}) ({own_durations}) > 0", "{{instance}}", "A"
            ),
            *(
                panels.range_query(expression, name, ref)
                for ref, (name, (expression, _)) in zip("BCD", lines.items(), strict=True)
            ),
        ],
        unit="s",
        calcs=("lastNotNull", "mean", "max"),
        width=24,
        height=11,
    ).scale_distribution(
        options.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
    )
    for name, (_, color) in lines.items():
        panel.override_by_name(
            name,
            [panels.color(color), panels.dashed(), DynamicConfigValue("custom.fillOpacity", 0)],
        )
    return panel


def runs() -> TimeSeries:
    """Return the rate of runs, by outcome."""
    rate = f"rate({of_one_test('smoketest_test_runs_total')}[$__rate_interval])"
    panel = (
        panels.timeseries(
            "Runs by outcome",
            "Runs per minute of all replicas together, by outcome.",
            [panels.range_query(f"60 * sum by (outcome) ({rate})", "{{outcome}}")],
            unit="cpm",
            calcs=("mean", "max"),
            width=12,
            height=10,
        )
        .draw_style(common.GraphDrawStyle.BARS)
        .stacking(options.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        .fill_opacity(80)
        .line_width(0)
    )
    for name, (text, color) in panels.OUTCOMES.items():
        panel.override_by_name(name, [panels.color(color), DynamicConfigValue("displayName", text)])
    return panel


def streak() -> TimeSeries:
    """Return the number of consecutive failures over time."""
    failures = of_one_test("smoketest_test_consecutive_failures")
    return (
        panels.timeseries(
            "Consecutive failures over time",
            "Number of consecutive runs in which the test failed, on each replica. Skipped runs "
            "are ignored.",
            [panels.range_query(f"max by ({queries.REPLICA_LABELS}) ({failures})", "{{instance}}")],
            unit="none",
            width=12,
            height=10,
        )
        .decimals(0)
        .line_interpolation(common.LineInterpolation.STEP_AFTER)
    )
