"""Format of the dashboards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins

from grafana.generator import __main__ as generator
from tests.grafana.model import DASHBOARDS, ROOT, Dashboard

#: JSON Schema of a dashboard from grafana-foundation-sdk, which is not part of the project.
SCHEMA = ROOT.parent / "shared" / "grafana" / "dashboard.jsonschema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Return the schema, if it is available."""
    if not SCHEMA.exists():
        pytest.skip("the JSON schema of a dashboard is not available")
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    # Grafana accepts any type for these two. The schema requires objects, but the name in an
    # override and a unit are strings.
    definitions = schema["definitions"]
    definitions["MatcherConfig"]["properties"]["options"] = {}
    definitions["DynamicConfigValue"]["properties"]["value"] = {}
    return schema


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__fits_the_schema(dashboard: Dashboard, schema: dict[str, Any]) -> None:
    """All keys and types are those of Grafana."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator(schema).validate(dashboard.json)


@pytest.mark.parametrize("change", [{"titel": "x"}, {"refresh": 5}, {"panels": [{"type": 1}]}])
def test_schema__detects_errors(change: dict[str, Any], schema: dict[str, Any]) -> None:
    """A misspelled key and a wrong type are errors."""
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate({**DASHBOARDS[0].json, **change})


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__round_trips_through_the_sdk(dashboard: Dashboard) -> None:
    """The types of the SDK represent all of the dashboard."""
    plugins.register_default_plugins()
    model = type(generator.DASHBOARDS[f"{dashboard.name}.json"]().build())
    written = generator.render(model.from_json(dict(dashboard.json)))
    assert json.loads(written) == dashboard.json
