"""Cost of an installed app before its first use: startup time, memory and imports.

New processes set up Django and import the URLconf, like each worker of a server. The baseline is a
site with a single page; the others are the same site with one of the apps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import OURS, PEERS, Aim, Environment, Findings, run, table

US = "django-smoketest"
BASELINE = "baseline: the site without it"
#: Modules for tests, terminals and other servers, which a worker does not need at startup.
UNUSED = (
    "IPython", "MySQLdb", "celery", "django.contrib.staticfiles", "django.core.management.commands",
    "django.core.servers", "django.test", "django_prometheus", "doctest", "http.server",
    "prometheus_client.exposition", "psycopg", "psycopg2", "pymysql", "pytest", "redis", "rich",
    "smoketest.cli", "smoketest.contrib", "smoketest.exporters.pushgateway",
    "smoketest.exporters.server", "smoketest.exporters.textfile", "smoketest.management",
    "unittest.mock", "wsgiref.simple_server",
)  # fmt: skip

Start = dict[str, Any]


def start(environment: Environment, folder: Path, peer: str) -> Start:
    """Return the measurements of one new process."""
    done = subprocess.run(
        [environment.python, "-m", "bench_site.start"],
        cwd=folder,
        env=environment.variables(folder) | {"BENCHMARK_PEER": peer},
        stdout=subprocess.PIPE,
        check=True,
    )
    measurements: Start = json.loads(done.stdout)
    return measurements


def import_times(environment: Environment, folder: Path) -> dict[str, int]:
    """Return the import times of the modules without their imports, in microseconds."""
    done = subprocess.run(
        [environment.python, "-X", "importtime", "-m", "bench_site.start"],
        cwd=folder, env=environment.variables(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    times = {}
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            times[rest.partition("|")[2].strip()] = int(own)
    return times


def unused(modules: set[str]) -> list[str]:
    """Return the modules that a worker does not need at startup."""
    return sorted(
        module for module in modules
        if any(module == name or module.startswith(f"{name}.") for name in UNUSED)
    )  # fmt: skip


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure the sites alternately."""
    findings = Findings()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smoketest-bench-")))
    environments = options.environments
    # Each app is compared with the baseline in its own environment.
    wanted = {
        US: environments[OURS.name],
        **{peer.name: environments[peer.name] for peer in PEERS if peer.name in environments},
    }
    starts: dict[str, list[Start]] = {name: [] for name in wanted}
    baselines: dict[str, list[Start]] = {name: [] for name in wanted}
    for _ in range(options.rounds * 2 + 1):
        for name, environment in wanted.items():
            baselines[name].append(start(environment, folder, "none"))
            starts[name].append(start(environment, folder, environment.peer.name))
    for measured in (*starts.values(), *baselines.values()):
        del measured[0]  # the first start writes bytecode

    def added(name: str, what: str) -> float:
        pairs = zip(starts[name], baselines[name], strict=True)
        return statistics.median(with_[what] - without[what] for with_, without in pairs)

    def baseline(what: str) -> float:
        return statistics.median(measured[what] for measured in baselines[US])

    rows = [
        (
            BASELINE,
            f"{baseline('setup') * 1000:.1f}",
            f"{baseline('served') * 1000:.1f}",
            f"{baseline('megabytes'):.1f}",
            len(baselines[US][0]["modules"]),
            "",
        )
    ]
    for name in wanted:
        more = set(starts[name][0]["modules"]) - set(baselines[name][0]["modules"])
        rows.append(
            (
                f"added by {name}",
                f"{added(name, 'setup') * 1000:.1f}",
                f"{added(name, 'served') * 1000:.1f}",
                f"{added(name, 'megabytes'):.1f}",
                len(more),
                "" if name == US else f"{added(US, 'served') / added(name, 'served'):.2f}",
            )
        )
    head = (
        "", "`django.setup()`, ms", "with URLconf, ms", "memory, MB", "modules",
        "ratio with URLconf",
    )  # fmt: skip
    findings.add("A new process:", table(head, rows))
    _imports(findings, starts, baselines, import_times(wanted[US], folder))
    return findings


def _imports(
    findings: Findings,
    starts: dict[str, list[Start]],
    baselines: dict[str, list[Start]],
    times: dict[str, int],
) -> None:
    """Report the modules that only the site with django-smoketest imports, by package."""
    more = set(starts[US][0]["modules"]) - set(baselines[US][0]["modules"])
    packages: dict[str, list[str]] = {}
    for module in sorted(more):
        head, _, rest = module.partition(".")
        package = f"{head}.{rest.partition('.')[0]}" if head == "django" else head
        packages.setdefault(package, []).append(module)
    cost = {
        package: sum(times.get(module, 0) for module in modules) / 1000
        for package, modules in packages.items()
    }
    slowest = sorted(packages, key=lambda package: -cost[package])[:12]
    findings.add(
        "Additional imports by package, slowest first, measured with `python -X importtime`:",
        table(
            ("package", "modules", "ms"),
            [(f"`{name}`", len(packages[name]), f"{cost[name]:.1f}") for name in slowest],
        ),
    )
    found = unused(more)
    print(f"Unused: {', '.join(found) or 'nothing'}")
    text = "imported modules that a worker does not need at startup"
    if found:
        text += f" ({', '.join(found)})"
    findings.aims.append(Aim(text, len(found), 0))


if __name__ == "__main__":
    run("idle", __doc__, main)
