"""Resources for Kubernetes, made of the alert rules, dashboards and example configuration.

They are for the Prometheus Operator (https://prometheus-operator.dev/docs/api-reference/api/), the
sidecar of Grafana's Helm chart, and kustomize. The text of the files is converted, because the
package does not depend on a library for YAML.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping

_API = "monitoring.coreos.com"
_KUSTOMIZATION = """\
# To apply all resources, in this directory: kubectl apply -k . --namespace NAMESPACE
# They require Prometheus Operator 0.66 or later, and Prometheus 2.42 or later.
#
# Each site needs its own ServiceMonitor and AlertmanagerConfig, in the namespace of its Service.
# The rules and dashboards are the same for all sites: apply them only once for each Prometheus.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
"""
_INHIBITIONS = """\
# The inhibitions of alertmanager.yml. By default (alertmanagerConfigMatcherStrategy), the
# operator applies them only to alerts of this namespace, so use that of the site.
"""
_DASHBOARDS = """\
# Dashboards for the sidecar of Grafana's Helm chart, which loads ConfigMaps with this label. Create
# them in a namespace that the sidecar searches (sidecar.dashboards.searchNamespace).
"""


def resources(
    service_monitor: str,
    *,
    rules: str,
    alertmanager: str,
    dashboards: Mapping[str, str],
    labels: Mapping[str, str],
) -> dict[str, str]:
    """Return the files by path.

    `service_monitor` is a resource without labels, `rules` and `alertmanager` are configuration
    files, and `dashboards` contains JSON by name. All resources get the `labels`.
    """
    files = {
        "servicemonitor.yml": service_monitor.replace(
            _metadata("smoketest", {}), _metadata("smoketest", labels), 1
        ),
        "prometheusrule.yml": _resource(f"{_API}/v1", "PrometheusRule", "smoketest", labels)
        + f"spec:\n{_indented(rules, 2)}",
        "alertmanagerconfig.yml": _INHIBITIONS
        + _resource(f"{_API}/v1alpha1", "AlertmanagerConfig", "smoketest", labels)
        + f"spec:\n{''.join(_inhibit_rules(alertmanager))}",
        "dashboards.yml": _DASHBOARDS
        + "---\n".join(
            _resource("v1", "ConfigMap", name, {"grafana_dashboard": "1", **labels})
            + f"data:\n  {name}.json: |\n{_indented(content, 4)}"
            for name, content in dashboards.items()
        ),
    }
    names = "".join(f"  - operator/{name}\n" for name in files)
    # Not in the directory of the resources, so that `kubectl apply -f` accepts that directory.
    kustomization = {"kustomization.yaml": _KUSTOMIZATION + names}
    return {f"operator/{name}": content for name, content in files.items()} | kustomization


def _resource(api_version: str, kind: str, name: str, labels: Mapping[str, str]) -> str:
    metadata = _metadata(name, labels)
    return f"apiVersion: {api_version}\nkind: {kind}\n{metadata}"


def _metadata(name: str, labels: Mapping[str, str]) -> str:
    lines = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in labels.items())
    return f"metadata:\n  name: {name}\n" + (f"  labels:\n{lines}" if lines else "")


def _indented(text: str, spaces: int) -> str:
    return textwrap.indent(text, " " * spaces)


_MATCHERS = re.compile(r"(\W+)(source|target)_matchers: \[.*\]\n")
_MATCHER = re.compile(r'(\w+) (=~|!=|!~|=) "([^"]*)"')


def _inhibit_rules(alertmanager: str) -> Iterator[str]:
    """Convert the ``inhibit_rules`` of Alertmanager's configuration.

    There, a matcher is a string; in an AlertmanagerConfig, it has a name, an operator and a value.
    """
    section = alertmanager.partition("\ninhibit_rules:\n")[2].partition("\n\n")[0] + "\n"
    yield "  inhibitRules:\n"
    for line in section.splitlines(keepends=True):
        matchers = _MATCHERS.fullmatch(line)
        if matchers is None:
            yield f"  {line}"
            continue
        yield f"  {matchers[1]}{matchers[2]}Match:\n"
        for name, operator, value in _MATCHER.findall(line):
            matcher = {"name": name, "matchType": operator, "value": value}
            yield f"        - {json.dumps(matcher)}\n"
