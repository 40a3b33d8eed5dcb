"""The dashboards are what Grafana reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins

from grafana.generator import __main__ as generator
from tests.grafana.model import DASHBOARDS, ROOT, Dashboard

#: Not part of the project: JSON Schema of a dashboard, from grafana-foundation-sdk.
SCHEMA = ROOT.parent / "shared" / "grafana" / "dashboard.jsonschema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema, where it is at hand."""
    if not SCHEMA.exists():
        pytest.skip("the JSON schema of a dashboard is not at hand")
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    # Anything goes for these two in Grafana; the schema says "object", but the name that an
    # override goes by is a string, and so is a unit.
    definitions = schema["definitions"]
    definitions["MatcherConfig"]["properties"]["options"] = {}
    definitions["DynamicConfigValue"]["properties"]["value"] = {}
    return schema


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__fits_the_schema(dashboard: Dashboard, schema: dict[str, Any]) -> None:
    """Every key is one of Grafana's, with a value of its type."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator(schema).validate(dashboard.json)


@pytest.mark.parametrize("change", [{"titel": "x"}, {"refresh": 5}, {"panels": [{"type": 1}]}])
def test_schema__finds_what_is_wrong(change: dict[str, Any], schema: dict[str, Any]) -> None:
    """A misspelt key and a wrong type are errors."""
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate({**DASHBOARDS[0].json, **change})


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_dashboard__survives_the_sdk(dashboard: Dashboard) -> None:
    """Read into the SDK's types and written again, it is the same: they know all of it."""
    plugins.register_default_plugins()
    model = type(generator.DASHBOARDS[f"{dashboard.name}.json"]().build())
    written = generator.render(model.from_json(dict(dashboard.json)))
    assert json.loads(written) == dashboard.json
