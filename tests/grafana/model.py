"""Model of the committed dashboards and of how Grafana interpolates their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"

#: Values of variables: one, several, or all of them if the variable is missing.
Chosen = Mapping[str, str | Sequence[str]]

#: Built-in variables of Grafana, for a range of five minutes.
BUILT_IN = {"__interval": "15s", "__rate_interval": "1m", "__range": "5m"}

# Not ``$1``, which is a group of a regular expression in label_replace().
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[a-z_]\w*)\}|(?P<bare>[a-z_]\w*))")
_SELECTOR = re.compile(r"(?P<metric>[a-zA-Z_:][\w:]*)\{(?P<matchers>[^}]*)\}(?P<range>\[[^]]*\])?")
_MATCHER = re.compile(r'(?P<label>\w+)(?P<operator>=~|!~|!=|=)"(?P<value>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector in an expression."""

    metric: str
    #: Operator and value by label; the last one if a label has several.
    matchers: Mapping[str, tuple[str, str]]
    #: ``[5m]``, or empty.
    range: str


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query and its place in a dashboard."""

    dashboard: str
    #: Title of the panel, or name of the variable or annotation.
    where: str
    ref: str
    expression: str
    #: ``instant``, ``range``, or ``series`` for the values of a variable.
    kind: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.where} {self.ref}".strip()

    @property
    def selectors(self) -> list[Selector]:
        """Selectors of the expression."""
        return [
            Selector(
                found["metric"],
                {
                    m["label"]: (m["operator"], m["value"])
                    for m in _MATCHER.finditer(found["matchers"])
                },
                found["range"] or "",
            )
            for found in _SELECTOR.finditer(self.expression)
        ]

    @property
    def rest(self) -> str:
        """Expression without its selectors."""
        return _SELECTOR.sub(" ", self.expression)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard file."""

    name: str
    json: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """Rows: panels that only have a title."""
        return [panel for panel in self.json["panels"] if panel["type"] == "row"]

    @property
    def panels(self) -> list[Mapping[str, Any]]:
        """Panels that are not rows."""
        return [panel for panel in self.json["panels"] if panel["type"] != "row"]

    def panel(self, title: str) -> Mapping[str, Any]:
        """Return the panel with a title."""
        (panel,) = (panel for panel in self.panels if panel["title"] == title)
        return panel

    @property
    def variables(self) -> Mapping[str, Mapping[str, Any]]:
        """Variables by name."""
        return {variable["name"]: variable for variable in self.json["templating"]["list"]}

    @property
    def queries(self) -> Iterator[Query]:
        """Queries of all panels, variables and annotations."""
        for panel in self.panels:
            for target in panel["targets"]:
                kind = "instant" if target.get("instant") else "range"
                yield Query(self.name, panel["title"], target["refId"], target["expr"], kind)
        for name, variable in self.variables.items():
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert found is not None, f"{name} is not a label_values query"
                selector, label = found.groups()
                expression = selector if "{" in selector else f"{selector}{{}}"
                yield Query(self.name, f"${name}", label, expression, "series")
        for annotation in self.json["annotations"]["list"]:
            yield Query(self.name, annotation["name"], "", annotation["expr"], "range")

    def interpolate(
        self,
        expression: str,
        chosen: Chosen | None = None,
        built_in: Mapping[str, str] = BUILT_IN,
    ) -> str:
        """Return the expression as Grafana sends it. Variables without a choice have all values."""
        values = {name: self._value(name, (chosen or {}).get(name)) for name in self.variables}
        values |= built_in
        # An unknown name is an error here; Grafana would not replace it.
        return _VARIABLE.sub(lambda found: values[found["braced"] or found["bare"]], expression)

    def _value(self, name: str, chosen: str | Sequence[str] | None) -> str:
        variable = self.variables[name]
        if chosen is None:
            return str(variable.get("allValue", ""))
        if not variable.get("multi"):
            assert isinstance(chosen, str), f"{name} accepts a single value"
            return chosen.replace("\\", "\\\\").replace('"', '\\"')
        values = [chosen] if isinstance(chosen, str) else chosen
        # The regular expression is part of a PromQL string, so every backslash is doubled.
        escaped = [re.sub(r"[\\^$*+?.()|{}\[\]]", r"\\\\\g<0>", value) for value in values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def load(name: str) -> Dashboard:
    """Load a dashboard."""
    return Dashboard(name, json.loads((FOLDER / f"{name}.json").read_text()))


OVERVIEW, TEST = DASHBOARDS = tuple(map(load, ("smoketest-overview", "smoketest-test")))
QUERIES = [query for dashboard in DASHBOARDS for query in dashboard.queries]
PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels]


def panel_id(value: object) -> str | None:
    """Return the title of a panel as the id of a test."""
    return str(value["title"]) if isinstance(value, Mapping) else None
