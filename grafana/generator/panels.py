"""Builders for the panels and dashboards of this project, with its default options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.generator import queries

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "django-smoketest"
#: The overview without values of variables.
ALL_SITES = "/d/smoketest-overview"

# Names of Grafana's palette, which each theme renders in its own shade.
GOOD, BAD, WARNING, NEUTRAL = "green", "red", "orange", "text"

#: Text and color of each outcome. A symbol and the text make it readable without colors.
OUTCOMES = {
    "passed": ("\u2713 passed", GOOD),
    "skipped": ("\u2013 skipped", "blue"),
    "not_run": ("? not run", "yellow"),
    "failed": ("\u2717 failed", BAD),
    "errored": ("! errored", "dark-red"),
    "timed_out": ("\u29d6 timed out", "purple"),
}


# Fields


def texts(values: Mapping[float, tuple[str, str]]) -> list[models.ValueMapping]:
    """Return a mapping from numbers to colored texts."""
    return [
        models.ValueMap(
            options={
                f"{value:.0f}": models.ValueMappingResult(text=text, color=color, index=index)
                for index, (value, (text, color)) in enumerate(values.items())
            }
        )
    ]


def constant_text(text: str) -> list[models.ValueMapping]:
    """Return a mapping that replaces all non-empty texts with this text."""
    result = models.ValueMappingResult(text=text, index=0)
    whole = models.DashboardRegexMapOptions(pattern="/.+/", result=result)
    return [models.RegexMap(options=whole)]


OUTCOME_TEXTS = texts({code: OUTCOMES[name] for code, name in enumerate(queries.OUTCOMES)})
FAILING_FOR_TEXTS = texts({0: ("-", NEUTRAL), queries.NEVER_PASSED: ("never passed", BAD)})
#: For a test, which may always be skipped, and for a replica, which should run its tests.
NEVER_TEXTS = texts({0: ("never", NEUTRAL)})
NO_RUN_TEXTS = texts({0: ("never", WARNING)})
STATUS_TEXTS = texts(
    {
        queries.DOWN: ("DOWN", BAD),
        queries.FAIL: ("FAIL", BAD),
        queries.PASS: ("PASS", GOOD),
        queries.NO_RUN: ("no run yet", WARNING),
    }
)


def threshold_colors(base: str, *others: tuple[float, str]) -> builders.ThresholdsConfig:
    """Return a base color, and the colors from given values upwards."""
    thresholds = [
        models.Threshold(value=None, color=base),
        *(models.Threshold(value=value, color=color) for value, color in others),
    ]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


def link(title: str, url: str, *, new_tab: bool = False) -> builders.DashboardLink:
    """Return a link of a field."""
    return builders.DashboardLink(title).url(url).target_blank(new_tab)


def test_link(test: str, job: str) -> builders.DashboardLink:
    """Return a link to the dashboard of a test that keeps the variables and the time range."""
    kept = ("datasource", *queries.ENVIRONMENT, "instance", "django_app", "maintainer", "severity")
    variables = "&".join(f"${{{name}:queryparam}}" for name in kept)
    url = f"/d/smoketest-test?var-test={test}&var-job={job}&{variables}&${{__url_time_range}}"
    return link("Show the dashboard of this test", url)


def site_column() -> Column:
    """Return a column with a link that limits the overview to a site."""
    url = "/d/smoketest-overview?${__value.raw}&${datasource:queryparam}&${__url_time_range}"
    return Column(
        title="Only",
        label="variables",
        width=80,
        settings={
            "links": [link("Show only this site", url).build()],
            "mappings": constant_text("show"),
        },
    )


# Queries


def range_query(expression: str, legend: str = "", ref: str = "A") -> Dataquery:
    """Return a query over the time range."""
    return _query(expression, ref).legend_format(legend).range()


def instant_query(expression: str, legend: str = "", ref: str = "A") -> Dataquery:
    """Return a query at the end of the time range."""
    return _query(expression, ref).legend_format(legend).instant()


def _query(expression: str, ref: str) -> Dataquery:
    return Dataquery().datasource(DATASOURCE).expr(expression).ref_id(ref)


# Panels


def stat(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "none",
    decimals: int = 0,
    thresholds: builders.ThresholdsConfig | None = None,
    mappings: Sequence[models.ValueMapping] = (),
    no_value: str = "no data",
    width: int = 3,
    legend: str = "",
) -> Stat:
    """Return a panel that shows a number or its mapped text."""
    return (
        Stat()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(instant_query(expression, legend))
        .unit(unit)
        .decimals(decimals)
        .thresholds(thresholds or threshold_colors(NEUTRAL))
        .mappings(list(mappings))
        .no_value(no_value)
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(width)
        .height(4)
    )


def count(title: str, description: str, tests: str, color: str) -> Stat:
    """Return a panel with the number of tests that match; it is colored unless the number is 0."""
    colors = threshold_colors(GOOD, (1, color))
    return stat(title, description, queries.count(tests), thresholds=colors)


def age(title: str, description: str, timestamp: str) -> Stat:
    """Return a panel with the time since a timestamp."""
    expression = f"time() - {timestamp}"
    return stat(title, description, expression, unit="s", decimals=1, no_value="none")


def timeline(
    title: str, description: str, expression: str, legend: str, *, height: int, rows: int
) -> StateTimeline:
    """Return a panel with outcomes over time, in one row per series."""
    return (
        StateTimeline()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(range_query(expression, legend))
        .unit("none")
        .mappings(OUTCOME_TEXTS)
        .thresholds(threshold_colors(NEUTRAL))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.ALWAYS)
        .merge_values(True)
        .row_height(0.85)
        .fill_opacity(80)
        .line_width(0)
        .per_page(rows)
        # Two per minute in six hours. Tests do not run more often, and there may be many of them.
        .max_data_points(720)
        .legend(_legend(common.LegendDisplayMode.LIST))
        .tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
        .no_value("no test has run in this time range")
        .span(24)
        .height(height)
    )


def timeseries(
    title: str,
    description: str,
    targets: Iterable[Dataquery],
    *,
    unit: str,
    width: int,
    height: int,
    calcs: Sequence[str] = ("lastNotNull", "max"),
    no_value: str = "no data",
) -> TimeSeries:
    """Return a panel with lines over time, and a table as its legend."""
    legend = _legend(common.LegendDisplayMode.TABLE).calcs(list(calcs))
    if "max" in calcs:
        legend = legend.sort_by("Max").sort_desc(True)
    return (
        TimeSeries()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(list(targets))
        .unit(unit)
        .min(0)
        .line_width(2)
        .fill_opacity(5)
        .show_points(common.VisibilityMode.AUTO)
        .span_nulls(False)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(threshold_colors(NEUTRAL))
        .legend(legend)
        .tooltip(
            options.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .no_value(no_value)
        .span(width)
        .height(height)
    )


def _legend(mode: common.LegendDisplayMode) -> options.VizLegendOptions:
    return (
        options.VizLegendOptions()
        .show_legend(True)
        .display_mode(mode)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs([])
    )


def color(name: str) -> models.DynamicConfigValue:
    """Return an override with a fixed color."""
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})


def dashed() -> models.DynamicConfigValue:
    """Return an override with a dashed line."""
    return models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})


# Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a label of its queries, or the value of one of them."""

    title: str
    label: str = ""
    expression: str = ""
    #: Width in pixels. None: the remaining width.
    width: int | None = 100
    unit: str = ""
    #: Further options of Grafana, by id.
    settings: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self) -> list[models.DynamicConfigValue]:
        """Return the options of the column."""
        # Without it, an empty cell would show the text for an empty table.
        values = {"noValue": "-", **self.settings}
        if self.unit:
            values["unit"] = self.unit
        values |= {"custom.minWidth": 320} if self.width is None else {"custom.width": self.width}
        return [models.DynamicConfigValue(key, value) for key, value in sorted(values.items())]


#: Option for a cell whose text has the color of its value.
COLORED_TEXT: Mapping[str, Any] = {"custom.cellOptions": {"type": "color-text"}}


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    labels_of: Sequence[str] = (),
    sort_by: Sequence[str] = (),
    no_value: str = "no data",
    width: int = 24,
    height: int,
) -> Table:
    """Return a table whose rows merge the queries of the columns and those in `labels_of`.

    The rows are sorted by the columns `sort_by`, in descending order.
    """
    expressions = [*labels_of, *(c.expression for c in columns if c.expression)]
    refs = dict(zip(expressions, ascii_uppercase[: len(expressions)], strict=True))

    def raw_name(column: Column) -> str:
        """Return the name of the column before it is renamed."""
        if column.label:
            return column.label
        return f"Value #{refs[column.expression]}" if len(refs) > 1 else "Value"

    names = {raw_name(column): column.title for column in columns}
    panel = (
        Table()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(
            [
                instant_query(expression, ref=ref).format(PromQueryFormat.TABLE)
                for expression, ref in refs.items()
            ]
        )
        .transformations(
            [
                models.DataTransformerConfig("merge", options={}),
                models.DataTransformerConfig(
                    "filterFieldsByName", options={"include": {"names": list(names)}}
                ),
                models.DataTransformerConfig(
                    "organize",
                    options={
                        "excludeByName": {},
                        "indexByName": {name: index for index, name in enumerate(names)},
                        "renameByName": names,
                    },
                ),
            ]
        )
        .unit("none")
        .thresholds(threshold_colors(NEUTRAL))
        .cell_height(common.TableCellHeight.SM)
        .filterable(True)
        .sort_by(
            [options.TableSortByFieldState().display_name(name).desc(True) for name in sort_by]
        )
        .no_value(no_value)
        .span(width)
        .height(height)
    )
    for column in columns:
        panel.override_by_name(column.title, column.overrides())
    return panel


def site_columns() -> list[Column]:
    """Return the columns that identify a site, which are absent if its series lack the label."""
    return [
        Column(title="Site", label="django_project", width=90),
        Column(title="Environment", label="environment", width=110),
        Column(title="Cluster", label="cluster", width=80),
        Column(title="Namespace", label="namespace", width=95),
    ]


def link_columns() -> list[Column]:
    """Return the columns with links to the test's page on the site and to its runbook."""
    return [
        Column(
            title=title,
            label=label,
            width=100,
            settings={
                "links": [link(text, "${__value.raw}", new_tab=True).build()],
                "mappings": constant_text("open"),
            },
        )
        for title, label, text in (
            ("Page", "url", "Open the test on the site"),
            ("Runbook", "runbook_url", "Open the runbook"),
        )
    ]


# Dashboards


def variable(name: str, label: str, metric: str, *, all_value: str) -> builders.QueryVariable:
    """Return a variable with multiple values, or all."""
    return (
        _label_values(name, label, metric)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def single_variable(name: str, label: str, metric: str) -> builders.QueryVariable:
    """Return a variable with a single value."""
    return _label_values(name, label, metric).multi(False).include_all(False)


def _label_values(name: str, label: str, metric: str) -> builders.QueryVariable:
    query = f"label_values({metric}, {name})"
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def hidden_variable(name: str) -> builders.QueryVariable:
    """Return a variable for a label that most installations do not have.

    Grafana cannot hide only those variables that have no values. Links set the value.
    """
    metric = queries.selector('job=~"$job"')("smoketest_build_info")
    return variable(name, name.replace("_", " ").capitalize(), metric, all_value=".*").hide(
        models.VariableHide.HIDE_VARIABLE
    )


def variables() -> list[builders.DatasourceVariable | builders.QueryVariable]:
    """Return the variables that both dashboards share."""
    tests = queries.of_sites("smoketest_test_outcome")
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        variable("job", "Job", "smoketest_build_info", all_value=".+"),
        *map(hidden_variable, queries.ENVIRONMENT),
        variable(
            "instance",
            "Instance",
            queries.selector(*(m for m in queries.SITE if "instance" not in m))(
                "smoketest_build_info"
            ),
            all_value=".+",
        ),
        # ".*" also matches tests without a maintainer, which do not have that label.
        variable("django_app", "App", tests, all_value=".*"),
        variable("maintainer", "Maintainer", tests, all_value=".*"),
        variable("severity", "Severity", tests, all_value=".*"),
    ]


def deploys() -> builders.AnnotationQuery:
    """Return an annotation for the time at which a release was first seen."""
    return (
        builders.AnnotationQuery()
        .name("Deploys")
        .datasource(DATASOURCE)
        .enable(True)
        .hide(False)
        .icon_color("blue")
        .expr(queries.deploys())
        .step("60s")
        .title_format("{{environment}} {{django_project}} {{job}}: release {{release}}")
        .text_format(
            "Django {{django_version}}, Python {{python_version}}, django-smoketest {{version}}"
        )
        .tag_keys("job,release")
    )


def new_dashboard(uid: str, title: str, description: str) -> builders.Dashboard:
    """Return a dashboard without variables and panels."""
    others = (
        builders.DashboardLink("Smoke tests")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
    return (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("1m")
        .link(
            builders.DashboardLink("All sites").type(models.DashboardLinkType.LINK).url(ALL_SITES)
        )
        .link(others)
        .annotation(deploys())
    )


Panels = Sequence[Stat | StateTimeline | Table | TimeSeries]


def add(dashboard: builders.Dashboard, sections: Iterable[tuple[str, Panels]]) -> None:
    """Add panels by section. A section without a title has no row; only the first may omit it."""
    numbers = iter(range(1, 1000))
    for title, panels in sections:
        if title:
            dashboard.with_row(builders.Row(title).id(next(numbers)))
        for panel in panels:
            dashboard.with_panel(panel.id(next(numbers)))
