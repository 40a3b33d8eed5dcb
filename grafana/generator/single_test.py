"""One test in depth."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.generator import panels, queries
from grafana.generator.panels import BAD, GOOD, WORRYING, Column
from grafana.generator.queries import of_one_test, of_tests

UID = "smoketest-test"


def dashboard() -> Dashboard:
    """The dashboard of one test."""
    known = of_tests("smoketest_test_outcome")
    made = panels.new_dashboard(
        UID,
        "Smoke tests: one test",
        "One smoke test in depth: its outcomes, how long it takes, and what it declares.",
    ).variables([*panels.variables(), panels.one_of("test", "Test", known)])
    panels.add(
        made,
        [
            ("", [*tiles(), declaration()]),
            ("Over time", [history(), durations(), runs(), streak()]),
        ],
    )
    return made


def tiles() -> panels.Panels:
    """How the test is."""
    in_a_row = of_one_test("smoketest_test_consecutive_failures")
    return [
        panels.stat(
            "Outcome",
            "What came of the test when it last ran: the worst of all replicas.",
            queries.outcome(of_one_test),
            mappings=panels.OUTCOME_TEXTS,
            width=4,
            legend="{{job}}",
        ),
        panels.stat(
            "Failing for",
            "Time since the last success, on the failing replica where that is longest ago.",
            queries.failing_for(of_one_test),
            unit="s",
            decimals=1,
            thresholds=panels.threshold_colors(GOOD, (0.001, BAD)),
            mappings=panels.FAILING_FOR_TEXTS,
            width=4,
            legend="{{job}}",
        ),
        panels.stat(
            "Failures in a row",
            "Runs in a row that the test did not pass, skips left out: the most of all replicas.",
            queries.by_test(in_a_row),
            thresholds=panels.threshold_colors(GOOD, (1, BAD)),
            width=4,
            legend="{{job}}",
        ),
        panels.stat(
            "Of its threshold",
            "The latest duration as a share of the test's own threshold, on the slowest replica.",
            queries.of_threshold(of_one_test),
            unit="percentunit",
            thresholds=panels.threshold_colors(GOOD, (0.8, "yellow"), (1, WORRYING)),
            width=4,
            legend="{{job}}",
        ),
        panels.stat(
            "Last run",
            "When the test last ran, on the replica where that is longest ago.",
            queries.last_run(of_one_test),
            unit="dateTimeFromNow",
            width=4,
            legend="{{job}}",
        ),
        panels.stat(
            "Last success",
            "When the test last passed, on the replica where that is longest ago.",
            queries.last_success(of_one_test),
            unit="dateTimeFromNow",
            mappings=panels.NEVER_TEXTS,
            width=4,
            legend="{{job}}",
        ),
    ]


def declaration() -> Table:
    """What the author of the test declared."""

    def seconds(title: str, metric: str) -> Column:
        return Column(
            title=title,
            expression=f"{queries.by_test(of_one_test(metric))} or {queries.known(of_one_test)}",
            unit="s",
            width=120,
            settings={"mappings": panels.texts({0: ("none", panels.QUIET)})},
        )

    return panels.table(
        "What it declares",
        "The test as its author declared it, where it ran last. Time-out and threshold are none "
        "for a module that cannot be imported, and the maximum age where no interval is set.",
        [
            Column(title="Test", label="test", width=None),
            Column(title="Job", label="job", width=120),
            Column(title="App", label="django_app", width=120),
            Column(title="Severity", label="severity", width=100),
            Column(title="Maintainer", label="maintainer", width=140),
            seconds("Slow from", "smoketest_test_slow_threshold_seconds"),
            seconds("Time-out", "smoketest_test_timeout_seconds"),
            seconds("Maximum age", "smoketest_test_max_age_seconds"),
            *panels.link_columns(),
        ],
        labels_of=[queries.declared(of_one_test), queries.links(of_one_test)],
        height=4,
    )


def history() -> StateTimeline:
    """Its outcomes, replica by replica."""
    return panels.timeline(
        "Outcomes",
        "What came of the test over time, on each replica. Marks are deploys.",
        queries.outcome(of_one_test, by="job, instance"),
        "{{instance}}",
        height=7,
        rows=8,
    )


def durations() -> TimeSeries:
    """How long it took, against what it may take and what it took before."""
    took = of_one_test("smoketest_test_last_run_duration_seconds")
    lines = {
        "slow from": (
            f"max({of_one_test('smoketest_test_slow_threshold_seconds')})",
            WORRYING,
        ),
        "time-out": (f"max({of_one_test('smoketest_test_timeout_seconds')})", BAD),
        "weekly median": (f"max({queries.weekly_median(of_one_test)})", "blue"),
    }
    panel = panels.timeseries(
        "Duration",
        "How long the test took on each replica, against its threshold, its time-out and its own "
        "median over the week before. The scale is logarithmic.",
        [
            # Nothing on a logarithmic scale is 0; a skipped test takes no time.
            panels.over_time(f"max by (job, instance) ({took}) > 0", "{{instance}}", "A"),
            *(
                panels.over_time(expression, name, ref)
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
    """How often it runs, by what came of it."""
    rate = f"rate({of_one_test('smoketest_test_runs_total')}[$__rate_interval])"
    panel = (
        panels.timeseries(
            "Runs by outcome",
            "Runs a minute of all replicas together, by what came of them.",
            [panels.over_time(f"60 * sum by (outcome) ({rate})", "{{outcome}}")],
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
    """How many failures in a row."""
    in_a_row = of_one_test("smoketest_test_consecutive_failures")
    return (
        panels.timeseries(
            "Failure streaks",
            "Runs in a row that the test did not pass, on each replica; skips left out.",
            [panels.over_time(f"max by (job, instance) ({in_a_row})", "{{instance}}")],
            unit="none",
            width=12,
            height=10,
        )
        .decimals(0)
        .line_interpolation(common.LineInterpolation.STEP_AFTER)
    )
