"""Resources for Kubernetes: valid for the operator, with the rules, inhibitions and dashboards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.core.management import CommandError, call_command

from tests.servers.services import require

ROOT = Path(__file__).resolve().parents[2]
#: Schemas of the oldest supported release of the Prometheus Operator, and of a recent one.
SCHEMAS = sorted((Path(__file__).parent / "crds").glob("prometheus-operator-*.json"))
LABELS = {"release": "kube-prometheus-stack", "example.com/team": "payments"}
#: Bytes. `kubectl apply` stores each resource in an annotation, which must not be larger.
LARGEST_ANNOTATION = 262_144


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory with the resources of a site."""
    labels = [f"--label={key}={value}" for key, value in LABELS.items()]
    call_command(
        "smoketest_assets",
        str(tmp_path),
        "--operator",
        "--job=bookshop",
        *labels,
        stdout=StringIO(),
    )
    return tmp_path / "prometheus"


def resources(folder: Path) -> list[dict[str, Any]]:
    """Return the resources in the order of the kustomization."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    names = kustomization["resources"]
    assert sorted(names) == sorted(f"operator/{path.name}" for path in folder.glob("operator/*"))
    return [one for name in names for one in yaml.safe_load_all((folder / name).read_text())]


def resource(folder: Path, kind: str) -> dict[str, Any]:
    (found,) = (one for one in resources(folder) if one["kind"] == kind)
    return found


def strict(schema: Any) -> Any:
    """Return the schema without unknown fields, as `kubectl apply` validates it."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_resources__are_valid(folder: Path, path: Path) -> None:
    """The definitions of the operator accept each resource, and no field is unknown."""
    schemas = json.loads(path.read_text())
    validated = set()
    for one in resources(folder):
        if one["kind"] == "ConfigMap":
            continue
        schema = strict(schemas[f"{one['apiVersion']} {one['kind']}"])
        # Not `jsonschema.validate`: a pattern that is not used here is one of Go, not of Python.
        validator = jsonschema.Draft202012Validator(schema)
        validator.validate(one)
        validated.add(one["kind"])
        assert not validator.is_valid(one | {"spec": {**one["spec"], "unknown": 1}})
    assert validated == {"ServiceMonitor", "PrometheusRule", "AlertmanagerConfig"}


def test_resources__oldest_operator_is_documented(folder: Path) -> None:
    """The release in the comment is the oldest one with which the resources are tested."""
    release = SCHEMAS[0].stem.removeprefix("prometheus-operator-").removesuffix(".0")
    assert f"Prometheus Operator {release} or later" in (folder / "kustomization.yaml").read_text()


def test_resources__have_the_labels(folder: Path) -> None:
    """All resources have the labels by which an operator selects them."""
    assert len(resources(folder)) == 5
    for one in resources(folder):
        assert LABELS.items() <= one["metadata"]["labels"].items(), one["kind"]


def test_resources__without_labels(tmp_path: Path) -> None:
    """Without --label, only the dashboards have one."""
    call_command("smoketest_assets", str(tmp_path), "--operator", stdout=StringIO())
    for one in resources(tmp_path / "prometheus"):
        expected = {"grafana_dashboard": "1"} if one["kind"] == "ConfigMap" else {}
        assert one["metadata"].get("labels", {}) == expected


def test_kustomization__is_valid(folder: Path) -> None:
    """`kubectl kustomize` accepts the directory and returns all resources."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    built = re.sub(
        r": =$", ': "="', built, flags=re.MULTILINE
    )  # PyYAML does not read it as a string

    def by_name(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    assert by_name(list(yaml.safe_load_all(built))) == by_name(resources(folder))


def test_service_monitor__job_is_not_that_of_the_service(folder: Path) -> None:
    """Another ServiceMonitor of the Service has its own series of `up`."""
    spec = resource(folder, "ServiceMonitor")["spec"]
    assert spec["selector"] == {"matchLabels": {"app.kubernetes.io/name": "bookshop"}}
    (endpoint,) = spec["endpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "bookshop-smoketest"}]


def test_prometheus_rule__has_the_rules(folder: Path) -> None:
    rules = yaml.safe_load((ROOT / "prometheus/rules/smoketest.yml").read_text())
    assert resource(folder, "PrometheusRule")["spec"] == rules


def test_alertmanager_config__has_the_inhibitions(folder: Path) -> None:
    """Each inhibition of alertmanager.yml is there, with the same matchers."""
    written = [
        {
            "source_matchers": [_matcher(one) for one in rule["sourceMatch"]],
            "target_matchers": [_matcher(one) for one in rule["targetMatch"]],
            "equal": rule["equal"],
        }
        for rule in resource(folder, "AlertmanagerConfig")["spec"]["inhibitRules"]
    ]
    expected = yaml.safe_load((ROOT / "prometheus/alertmanager.yml").read_text())["inhibit_rules"]
    assert written == expected
    assert len(written) > 3


def _matcher(matcher: dict[str, str]) -> str:
    return f'{matcher["name"]} {matcher["matchType"]} "{matcher["value"]}"'


def test_alertmanager_config__is_accepted_by_alertmanager(folder: Path, tmp_path: Path) -> None:
    """Alertmanager accepts the inhibitions as the operator writes them."""
    rules = [
        {
            "source_matchers": [_quoted(one) for one in rule["sourceMatch"]],
            "target_matchers": [_quoted(one) for one in rule["targetMatch"]],
            "equal": rule["equal"],
        }
        for rule in resource(folder, "AlertmanagerConfig")["spec"]["inhibitRules"]
    ]
    config = {"route": {"receiver": "x"}, "receivers": [{"name": "x"}], "inhibit_rules": rules}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [require("amtool"), "check-config", str(tmp_path / "alertmanager.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} inhibit rules" in done.stdout


def _quoted(matcher: dict[str, str]) -> str:
    return f'{matcher["name"]}{matcher["matchType"]}"{matcher["value"]}"'


def test_dashboards__are_in_config_maps(folder: Path) -> None:
    """The sidecar of Grafana finds each dashboard, and kubectl can apply it."""
    maps = [one for one in resources(folder) if one["kind"] == "ConfigMap"]
    found = {}
    for one in maps:
        assert one["apiVersion"] == "v1"
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert len(json.dumps(one)) < LARGEST_ANNOTATION
        found |= one["data"]
    dashboards = ROOT / "grafana/dashboards"
    assert found == {path.name: path.read_text() for path in dashboards.glob("*.json")}


@pytest.mark.parametrize(
    "job", ["true", "on", "null", "123", "1e3", "2026-01-01", "0x1f", "a-b.c_d"]
)
@pytest.mark.parametrize("operator", [False, True])
def test_job__is_a_string(tmp_path: Path, job: str, operator: bool) -> None:
    """A job that looks like another type in YAML is quoted."""
    arguments = ["--operator"] if operator else []
    call_command("smoketest_assets", str(tmp_path), f"--job={job}", *arguments, stdout=StringIO())
    if operator:
        spec = resource(tmp_path / "prometheus", "ServiceMonitor")["spec"]
        assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/name": job}
        assert spec["endpoints"][0]["relabelings"][0]["replacement"] == f"{job}-smoketest"
    else:
        config = yaml.safe_load((tmp_path / "prometheus/prometheus.yml").read_text())
        assert config["scrape_configs"][0]["job_name"] == job


@pytest.mark.parametrize("job", ["shop/web", "shop:web", "-shop", "shop.", 64 * "x"])
def test_job__is_a_label_value(tmp_path: Path, job: str) -> None:
    """Kubernetes rejects other values, but a job of Prometheus may have them."""
    call_command("smoketest_assets", str(tmp_path / "a"), f"--job={job}", stdout=StringIO())
    with pytest.raises(CommandError, match="is not a valid label value in Kubernetes; use at most"):
        call_command("smoketest_assets", str(tmp_path / "b"), f"--job={job}", "--operator")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operator", "--label", "release"], "'release' is not KEY=VALUE with a valid label key"),
        (["--operator", "--label", "=x"], "is not KEY=VALUE with a valid label key"),
        (["--operator", "--label", "a b=x"], "is not KEY=VALUE with a valid label key"),
        (["--operator", "--label", "Example.com/a=x"], "is not KEY=VALUE with a valid label key"),
        (["--operator", "--label", "/a=x"], "is not KEY=VALUE with a valid label key"),
        (
            ["--operator", "--label", "release=a b"],
            "'a b' is not a valid label value in Kubernetes",
        ),
        (["--label", "release=x"], "--label requires --operator."),
    ],
)
def test_label__wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    """The message says what is wrong, and nothing is written."""
    with pytest.raises(CommandError, match=re.escape(message)):
        call_command("smoketest_assets", str(tmp_path / "folder"), *arguments)
    assert not (tmp_path / "folder").exists()
