"""What an app costs a site that does not use it yet: the start, the memory, the imports.

Fresh processes set Django up and import the URLs, as each worker of a server does, on a site with
nothing but one page (the floor), and on the same site with one of the apps.
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
FLOOR = "baseline: the site without it"
#: What is for tests, for a terminal, for other servers: no worker of a site needs it to start.
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
    """What one fresh process tells."""
    done = subprocess.run(
        [environment.python, "-m", "bench_site.start"],
        cwd=folder,
        env=environment.variables(folder) | {"BENCHMARK_PEER": peer},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: Start = json.loads(done.stdout)
    return found


def import_times(environment: Environment, folder: Path) -> dict[str, int]:
    """Microseconds that each module took by itself, by ``-X importtime``."""
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
    """Modules among these that no worker needs to start."""
    return sorted(
        module for module in modules
        if any(module == name or module.startswith(f"{name}.") for name in UNUSED)
    )  # fmt: skip


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """All sites, in turns."""
    findings = Findings()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smoketest-bench-")))
    environments = options.environments
    # Each app against the floor of its own environment.
    wanted = {
        US: environments[OURS.name],
        **{peer.name: environments[peer.name] for peer in PEERS if peer.name in environments},
    }
    starts: dict[str, list[Start]] = {name: [] for name in wanted}
    floors: dict[str, list[Start]] = {name: [] for name in wanted}
    for _ in range(options.rounds * 2 + 1):
        for name, environment in wanted.items():
            floors[name].append(start(environment, folder, "none"))
            starts[name].append(start(environment, folder, environment.peer.name))
    for measured in (*starts.values(), *floors.values()):
        del measured[0]  # that one wrote the bytecode

    def added(name: str, what: str) -> float:
        pairs = zip(starts[name], floors[name], strict=True)
        return statistics.median(with_[what] - without[what] for with_, without in pairs)

    def floor(what: str) -> float:
        return statistics.median(measured[what] for measured in floors[US])

    rows = [
        (
            FLOOR,
            f"{floor('setup') * 1000:.1f}",
            f"{floor('served') * 1000:.1f}",
            f"{floor('megabytes'):.1f}",
            len(floors[US][0]["modules"]),
            "",
        )
    ]
    for name in wanted:
        more = set(starts[name][0]["modules"]) - set(floors[name][0]["modules"])
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
    _imports(findings, starts, floors, import_times(wanted[US], folder))
    return findings


def _imports(
    findings: Findings,
    starts: dict[str, list[Start]],
    floors: dict[str, list[Start]],
    times: dict[str, int],
) -> None:
    """What we import that the site would not, by the package that it belongs to."""
    more = set(starts[US][0]["modules"]) - set(floors[US][0]["modules"])
    packages: dict[str, list[str]] = {}
    for module in sorted(more):
        head, _, rest = module.partition(".")
        package = f"{head}.{rest.partition('.')[0]}" if head == "django" else head
        packages.setdefault(package, []).append(module)
    cost = {
        package: sum(times.get(module, 0) for module in modules) / 1000
        for package, modules in packages.items()
    }
    dearest = sorted(packages, key=lambda package: -cost[package])[:12]
    findings.add(
        "Additional imports by package, slowest first, measured with `python -X importtime`:",
        table(
            ("package", "modules", "ms"),
            [(f"`{name}`", len(packages[name]), f"{cost[name]:.1f}") for name in dearest],
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
