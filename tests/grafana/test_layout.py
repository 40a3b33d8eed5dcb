"""Layout of the dashboards: places, widths, colors, texts and links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import pytest

from smoketest.results import Outcome
from tests.grafana.model import DASHBOARDS, OVERVIEW, PANELS, TEST, Dashboard, panel_id

WIDTH = 24
#: Names in the palette of Grafana, which each theme renders in its own shade.
PALETTE = re.compile(
    r"(?:(?:super-light|light|semi-dark|dark)-)?(?:red|orange|yellow|green|blue|purple)|text"
)


def everywhere(value: Any, key: str) -> Iterator[Any]:
    """Yield all values of a key, at any depth."""
    if isinstance(value, Mapping):
        yield from (v for k, v in value.items() if k == key)
        for inner in value.values():
            yield from everywhere(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from everywhere(inner, key)


def columns(panel: Mapping[str, Any]) -> dict[str, str]:
    """Return the title of each column of a table by its raw name, from left to right."""
    (organize,) = (t["options"] for t in panel["transformations"] if t["id"] == "organize")
    places = organize["indexByName"]
    assert organize["renameByName"].keys() == places.keys()
    return {name: organize["renameByName"][name] for name in sorted(places, key=places.get)}


TABLES = [(d, p) for d, p in PANELS if p["type"] == "table"]


# Places


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_panels__fill_every_row(dashboard: Dashboard) -> None:
    """Panels cover the grid without gaps and overlaps, in rows of equal height."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard.json["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} overlaps {taken[x, y]}"
                taken[x, y] = panel["title"]
    bottom = max(y for _, y in taken) + 1
    assert taken.keys() == {(x, y) for x in range(WIDTH) for y in range(bottom)}
    for _, row in groupby(dashboard.json["panels"], key=lambda panel: panel["gridPos"]["y"]):
        assert len({panel["gridPos"]["h"] for panel in row}) == 1


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_panels__have_unique_ids_and_titles(dashboard: Dashboard) -> None:
    """A link to a panel and a title identify one panel."""
    panels = dashboard.json["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert len({panel["title"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_tiles__come_first(dashboard: Dashboard) -> None:
    """The first row has the current state, in stat panels whose titles fit."""
    first = [panel for panel in dashboard.panels if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in first} == {"stat"}
    for panel in first:
        assert len(panel["title"]) <= 6 * panel["gridPos"]["w"]


@pytest.mark.parametrize(("_dashboard", "panel"), TABLES, ids=panel_id)
def test_table__columns_fit(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Fixed columns leave room for the growing one on a screen of 1,920 pixels."""
    widths = {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    assert list(widths) == list(columns(panel).values())  # each column has an override
    growing = [name for name, settings in widths.items() if "custom.width" not in settings]
    assert len(growing) == 1
    fixed = sum(settings.get("custom.width", 0) for settings in widths.values())
    assert fixed + widths[growing[0]]["custom.minWidth"] <= 1860


@pytest.mark.parametrize(("_dashboard", "panel"), TABLES, ids=panel_id)
def test_table__titles_fit(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """A title needs about 7 pixels per letter and 30 for padding and the filter."""
    for override in panel["fieldConfig"]["overrides"]:
        width = {p["id"]: p["value"] for p in override["properties"]}.get("custom.width", 1000)
        title = override["matcher"]["options"]
        assert 7 * len(title) + 30 <= width, f"{title} does not fit {width} pixels"


@pytest.mark.parametrize(("_dashboard", "panel"), TABLES, ids=panel_id)
def test_table__names_existing_columns(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """Sorting, merging and renaming only use columns that the queries return."""
    names = columns(panel)
    refs = [target["refId"] for target in panel["targets"]]
    values = {"Value"} if len(refs) == 1 else {f"Value #{ref}" for ref in refs}
    assert {name for name in names if name.startswith("Value")} <= values
    (kept,) = (t["options"] for t in panel["transformations"] if t["id"] == "filterFieldsByName")
    assert kept["include"]["names"] == list(names)
    assert {sort["displayName"] for sort in panel["options"]["sortBy"]} <= set(names.values())


@pytest.mark.parametrize(
    ("_dashboard", "panel"), [(d, p) for d, p in PANELS if p["type"] == "timeseries"], ids=panel_id
)
def test_time_series__has_a_legend_table(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """The legend table names each line and shows a value, so that colors are not required."""
    legend = panel["options"]["legend"]
    assert (legend["showLegend"], legend["displayMode"]) == (True, "table")
    assert legend["calcs"]
    assert all(target["legendFormat"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["min"] == 0


# Colors and texts


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_colors__are_names_of_the_palette(dashboard: Dashboard) -> None:
    """Colors are names, so that each theme has its own shade."""
    colors = [
        color
        for key in ("color", "fixedColor", "iconColor")
        for color in everywhere(dashboard.json, key)
        if isinstance(color, str)
    ]
    assert colors
    assert [color for color in colors if not PALETTE.fullmatch(color)] == []
    assert "#" not in "".join(colors)


def outcome_texts(panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the texts of a panel for outcomes, by number."""
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    return dict(mapping["options"])


@pytest.mark.parametrize(
    "panel",
    [OVERVIEW.panel("Outcomes"), TEST.panel("Outcomes"), TEST.panel("Outcome")],
    ids=panel_id,
)
def test_outcomes__have_texts_and_symbols(panel: Mapping[str, Any]) -> None:
    """Each outcome has its own symbol, word and color, so that no color is needed to read it."""
    texts = outcome_texts(panel)
    parts = [texts[str(code)]["text"].partition(" ") for code in range(len(texts))]
    symbols, words = {symbol for symbol, _, _ in parts}, [word for _, _, word in parts]
    assert len(symbols) == len(texts)
    assert {len(symbol) for symbol in symbols} == {1}
    assert sorted(words) == sorted(outcome.replace("_", " ") for outcome in Outcome)
    assert words[0] == "passed"
    assert len({text["color"] for text in texts.values()}) == len(texts)


@pytest.mark.parametrize(("_dashboard", "panel"), PANELS, ids=panel_id)
def test_panel__has_a_text_without_data(_dashboard: Dashboard, panel: Mapping[str, Any]) -> None:
    """A panel without data shows a text, and an empty cell of a table shows a dash."""
    assert panel["fieldConfig"]["defaults"]["noValue"]
    if panel["type"] == "table":
        for override in panel["fieldConfig"]["overrides"]:
            assert {"id": "noValue", "value": "-"} in override["properties"]


# Links


def test_uids__are_stable() -> None:
    """The uids do not change, so that links from alerts and bookmarks keep working."""
    assert [(d.name, d.json["uid"]) for d in DASHBOARDS] == [(d.name, d.name) for d in DASHBOARDS]


@pytest.mark.parametrize(
    ("title", "test", "job"),
    [
        ("Tests", "${__value.raw}", "${__data.fields.Job}"),
        ("Firing alerts", "${__value.raw}", "${__data.fields.Job}"),
        (
            "Slowest tests compared with threshold and median",
            "${__value.raw}",
            "${__data.fields.Job}",
        ),
        ("Outcomes", "${__field.labels.test}", "${__field.labels.job}"),
    ],
)
def test_test__links_to_its_dashboard(title: str, test: str, job: str) -> None:
    """The link sets the test and its job, and keeps the other variables and the time range."""
    panel = OVERVIEW.panel(title)
    urls = [link["url"] for links in links_of(panel) for link in links]
    (url,) = (url for url in urls if url.startswith("/d/"))
    path, _, parameters = url.partition("?")
    assert path == f"/d/{TEST.json['uid']}"
    assert parameters.split("&") == [
        f"var-test={test}",
        f"var-job={job}",
        *(f"${{{name}:queryparam}}" for name in TEST.variables if name not in ("test", "job")),
        "${__url_time_range}",
    ]
    if panel["type"] == "table":
        assert {"Test", "Job"} <= set(columns(panel).values())


def links_of(panel: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the links of all fields of a panel and of single fields."""
    config = panel["fieldConfig"]
    yield config["defaults"].get("links", [])
    for override in config["overrides"]:
        yield from (p["value"] for p in override["properties"] if p["id"] == "links")


@pytest.mark.parametrize(
    "panel",
    [OVERVIEW.panel("Tests"), OVERVIEW.panel("Firing alerts"), TEST.panel("Attributes")],
    ids=panel_id,
)
def test_test__links_to_its_page_and_runbook(panel: Mapping[str, Any]) -> None:
    """The cell contains the URL and shows a short word."""
    names = columns(panel)
    for label in ("url", "runbook_url"):
        (properties,) = (
            {p["id"]: p["value"] for p in override["properties"]}
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["options"] == names[label]
        )
        (link,) = properties["links"]
        assert (link["url"], link["targetBlank"]) == ("${__value.raw}", True)
        (mapping,) = properties["mappings"]
        assert mapping["options"] == {
            "pattern": "/.+/",
            "result": {"index": 0, "text": "open"},
        }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__links_to_the_other(dashboard: Dashboard) -> None:
    """The dashboards share a tag; the link keeps variables and time."""
    (link,) = (link for link in dashboard.json["links"] if link["type"] == "dashboards")
    assert link["tags"] == dashboard.json["tags"] == ["django-smoketest"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__links_to_all_sites(dashboard: Dashboard) -> None:
    """A link to the overview resets the variables, including the hidden ones."""
    (link,) = (link for link in dashboard.json["links"] if link["type"] == "link")
    assert (link["title"], link["url"], link["includeVars"]) == (
        "All sites",
        f"/d/{OVERVIEW.json['uid']}",
        False,
    )


def test_site__links_to_its_overview() -> None:
    """The link of a row sets the variables of the site."""
    panel = OVERVIEW.panel("Sites")
    ((link,),) = (links for links in links_of(panel) if links)
    assert link["url"].startswith(f"/d/{OVERVIEW.json['uid']}?${{__value.raw}}&")
    assert "variables" in columns(panel)
