"""Panels and dashboards as this project has them: one function a kind of panel."""

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

# Names of Grafana's palette: each theme has its own shade of them.
GOOD, BAD, WORRYING, QUIET = "green", "red", "orange", "text"

#: The text of each outcome, so that no one depends on its colour.
OUTCOMES = {
    "passed": ("passed", GOOD),
    "skipped": ("skipped", "blue"),
    "not_run": ("not run", "yellow"),
    "failed": ("failed", BAD),
    "errored": ("errored", "dark-red"),
    "timed_out": ("timed out", "purple"),
}


# Fields


def texts(values: Mapping[float, tuple[str, str]]) -> list[models.ValueMapping]:
    """Show a text in a colour instead of a number."""
    return [
        models.ValueMap(
            options={
                f"{value:.0f}": models.ValueMappingResult(text=text, color=color, index=index)
                for index, (value, (text, color)) in enumerate(values.items())
            }
        )
    ]


def as_text(text: str) -> list[models.ValueMapping]:
    """Show this text in place of any that is not empty."""
    result = models.ValueMappingResult(text=text, index=0)
    whole = models.DashboardRegexMapOptions(pattern="/.+/", result=result)
    return [models.RegexMap(options=whole)]


OUTCOME_TEXTS = texts({code: OUTCOMES[name] for code, name in enumerate(queries.OUTCOMES)})
FAILING_FOR_TEXTS = texts({0: ("-", QUIET), queries.NEVER_PASSED: ("never passed", BAD)})
NEVER_TEXTS = texts({0: ("never", WORRYING)})


def threshold_colors(base: str, *others: tuple[float, str]) -> builders.ThresholdsConfig:
    """A colour, and from which value on it is another."""
    thresholds = [
        models.Threshold(value=None, color=base),
        *(models.Threshold(value=value, color=color) for value, color in others),
    ]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


def link(title: str, url: str, *, new_tab: bool = False) -> builders.DashboardLink:
    """A link of a field."""
    return builders.DashboardLink(title).url(url).target_blank(new_tab)


def to_test(test: str, job: str) -> builders.DashboardLink:
    """A link to the dashboard of one test, which keeps the rest of the choice, and the time."""
    kept = ("datasource", "instance", "django_app", "maintainer", "severity")
    variables = "&".join(f"${{{name}:queryparam}}" for name in kept)
    url = f"/d/smoketest-test?var-test={test}&var-job={job}&{variables}&${{__url_time_range}}"
    return link("Look into this test", url)


# Queries


def over_time(expression: str, legend: str = "", ref: str = "A") -> Dataquery:
    """A query for each moment of the time range."""
    return _query(expression, ref).legend_format(legend).range()


def at_the_end(expression: str, legend: str = "", ref: str = "A") -> Dataquery:
    """A query for the end of the time range."""
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
    """A number, or the word for it."""
    return (
        Stat()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(at_the_end(expression, legend))
        .unit(unit)
        .decimals(decimals)
        .thresholds(thresholds or threshold_colors(QUIET))
        .mappings(list(mappings))
        .no_value(no_value)
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(width)
        .height(4)
    )


def count(title: str, description: str, tests: str, color: str) -> Stat:
    """How many tests the expression finds; coloured unless none."""
    colors = threshold_colors(GOOD, (1, color))
    return stat(title, description, queries.count(tests), thresholds=colors)


def age(title: str, description: str, timestamp: str) -> Stat:
    """The time since a time stamp."""
    expression = f"time() - {timestamp}"
    return stat(title, description, expression, unit="s", decimals=1, no_value="none")


def timeline(
    title: str, description: str, expression: str, legend: str, *, height: int, rows: int
) -> StateTimeline:
    """Outcomes over time, one row a series."""
    return (
        StateTimeline()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(over_time(expression, legend))
        .unit("none")
        .mappings(OUTCOME_TEXTS)
        .thresholds(threshold_colors(QUIET))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.85)
        .fill_opacity(80)
        .line_width(0)
        .per_page(rows)
        # Twice a minute in six hours: tests do not run more often, and there may be many.
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
    """Lines over time, above a table that names them."""
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
        .thresholds(threshold_colors(QUIET))
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
    """An override: this colour, always."""
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})


def dashed() -> models.DynamicConfigValue:
    """An override: a dashed line."""
    return models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})


# Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a label of its queries, or the value of one of them."""

    title: str
    label: str = ""
    expression: str = ""
    #: In pixels; None for what the others leave.
    width: int | None = 100
    unit: str = ""
    #: More of Grafana's options, by their ids.
    settings: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self) -> list[models.DynamicConfigValue]:
        """What makes the column differ from the others."""
        # Else an empty cell would show what the table says when it is empty.
        values = {"noValue": "-", **self.settings}
        if self.unit:
            values["unit"] = self.unit
        values |= {"custom.minWidth": 320} if self.width is None else {"custom.width": self.width}
        return [models.DynamicConfigValue(key, value) for key, value in sorted(values.items())]


#: A cell whose text has the colour of its value.
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
    """Rows that are merged from several queries: those of the columns, and those of `labels_of`.

    Sorted by the greatest value of the columns `sort_by`.
    """
    expressions = [*labels_of, *(c.expression for c in columns if c.expression)]
    refs = dict(zip(expressions, ascii_uppercase[: len(expressions)], strict=True))

    def raw_name(column: Column) -> str:
        """What the column is called before it is renamed."""
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
                at_the_end(expression, ref=ref).format(PromQueryFormat.TABLE)
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
        .thresholds(threshold_colors(QUIET))
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


def link_columns() -> list[Column]:
    """The ways from a row to the site's own page and to the runbook, where a test has them."""
    return [
        Column(
            title=title,
            label=label,
            width=100,
            settings={
                "links": [link(text, "${__value.raw}", new_tab=True).build()],
                "mappings": as_text("open"),
            },
        )
        for title, label, text in (
            ("Page", "url", "Open the test on the site"),
            ("Runbook", "runbook_url", "Open the runbook"),
        )
    ]


# Dashboards


def variable(name: str, label: str, metric: str, *, all_value: str) -> builders.QueryVariable:
    """A variable of which several values, or all, can be chosen."""
    return (
        _label_values(name, label, metric)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def one_of(name: str, label: str, metric: str) -> builders.QueryVariable:
    """A variable of which one value is chosen."""
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


def variables() -> list[builders.DatasourceVariable | builders.QueryVariable]:
    """What both dashboards let one choose."""
    tests = queries.of_sites("smoketest_test_outcome")
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        variable("job", "Job", "smoketest_build_info", all_value=".+"),
        variable(
            "instance",
            "Instance",
            queries.selector('job=~"$job"')("smoketest_build_info"),
            all_value=".+",
        ),
        # A test without a maintainer has no such label: ".+" would lose it.
        variable("django_app", "App", tests, all_value=".*"),
        variable("maintainer", "Maintainer", tests, all_value=".*"),
        variable("severity", "Severity", tests, all_value=".*"),
    ]


def deploys() -> builders.AnnotationQuery:
    """A mark where another release begins to run."""
    return (
        builders.AnnotationQuery()
        .name("Deploys")
        .datasource(DATASOURCE)
        .enable(True)
        .hide(False)
        .icon_color("blue")
        .expr(queries.deploys())
        .step("60s")
        .title_format("{{job}}: release {{release}}")
        .text_format(
            "Django {{django_version}}, Python {{python_version}}, django-smoketest {{version}}"
        )
        .tag_keys("job,release")
    )


def new_dashboard(uid: str, title: str, description: str) -> builders.Dashboard:
    """A dashboard without variables and panels."""
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
        .link(others)
        .annotation(deploys())
    )


Panels = Sequence[Stat | StateTimeline | Table | TimeSeries]


def add(dashboard: builders.Dashboard, sections: Iterable[tuple[str, Panels]]) -> None:
    """Add panels in the order given, each section under its title; the first may have none."""
    numbers = iter(range(1, 1000))
    for title, panels in sections:
        if title:
            dashboard.with_row(builders.Row(title).id(next(numbers)))
        for panel in panels:
            dashboard.with_panel(panel.id(next(numbers)))
