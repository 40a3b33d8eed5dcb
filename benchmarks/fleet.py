"""Resources that Prometheus needs for a simulated fleet: 1,000 instances with 200 tests each.

A real Prometheus with the alert rules scrapes instances that this process simulates: it serves the
metrics of a real site with changing timestamps and durations; one in ten instances has two failing
tests. An hour of `smoketest_test_success` is written beforehand, since rules have a range of up to
one hour. Three sizes are measured. The values for 1,000 instances are extrapolated linearly from
the largest size; the other sizes show whether growth is linear.

The queries of the dashboards are measured on a site with 1,000 tests and three replicas, with an
hour of outcomes and a week of durations, and the rules on five such sites whose tests all fail.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness import CHECKOUT, OURS, Aim, Environment, Findings, as_variable, need, run, table, whole

from tests.grafana.model import DASHBOARDS as BOARDS
from tests.grafana.model import Query
from tests.servers.client import get
from tests.servers.pages import Page, serve
from tests.servers.processes import wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.services import require
from tests.servers.site import clean_environment

RULES = CHECKOUT / "prometheus" / "rules" / "smoketest.yml"
DASHBOARDS = CHECKOUT / "grafana" / "dashboards"
TESTS = 200
FLEET = 1000
PER_JOB = 10
SCRAPE_EVERY = 5
#: Seconds between evaluations; short, to get enough of them quickly.
EVALUATE_EVERY = 2
#: Scrape interval in seconds of a real site, and of the hour written beforehand.
REAL_SCRAPE_EVERY = 60
SUCCESS = "smoketest_test_success"
APPENDED = "prometheus_tsdb_head_samples_appended_total"
CPU = "process_cpu_seconds_total"
#: Metrics that no alert uses.
DROPPED = "smoketest_test_outcome|smoketest_test_runs_total"

#: Tests and replicas of a site whose dashboards are measured.
BOARD_TESTS, BOARD_REPLICAS = 1000, 3
#: Sites of this size whose tests all fail.
ALERT_SITES = 5
OUTCOME = "smoketest_test_outcome"
DURATION = "smoketest_test_last_run_duration_seconds"
WEEK = 7 * 24 * 3600
#: Time range and step in seconds of the range queries.
RANGE, STEP = 3600, 15


# Metrics pages


def exposition(environment: Environment, folder: Path, tests: int) -> str:
    """Return the metrics page of a site after a run, in the text format."""
    code = (
        "import django; django.setup()\n"
        "from smoketest import services\n"
        "from smoketest.metrics import TEXT, expose\n"
        "from smoketest.results import Selection\n"
        "services.coordinator().run(Selection(), wait=0)\n"
        "print(expose(services.collector(), TEXT).decode(), end='')"
    )
    settings = {"SMOKETEST_INTERVAL": 60, "SMOKETEST_PUBLIC_URL": "https://shop.example.com"}
    return subprocess.run(
        [environment.python, "-c", code],
        cwd=folder,
        env=environment.variables(
            folder,
            BENCHMARK_TESTS=str(tests),
            BENCHMARK_CLASSES="10",
            BENCHMARK_SETTINGS=as_variable(settings),
        ),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


_SAMPLE = re.compile(r"^(?P<name>smoketest_\w+)(?P<labels>\{.*\})? (?P<value>\S+)$", re.MULTILINE)


def series(page: str) -> Counter[str]:
    """Return the number of series by metric."""
    return Counter(match["name"] for match in _SAMPLE.finditer(page))


def make_template(page: str, failing: tuple[str, ...] = ()) -> bytes:
    """Return the page with failing tests, and placeholders for timestamps and durations."""

    def sample(match: re.Match[str]) -> str:
        name, labels, value = match["name"], match["labels"] or "", match["value"]
        fails = any(f'test="{test}"' in labels for test in failing)
        if name.endswith("last_success_timestamp_seconds") and fails:
            value = "1.7e9"
        elif name.endswith("_timestamp_seconds"):
            value = "@NOW@"
        elif name.endswith("_duration_seconds"):
            value = "@DURATION@"
        elif fails and name == "smoketest_test_success":
            value = "0.0"
        elif fails and name == "smoketest_test_consecutive_failures":
            value = "5.0"
        elif fails and name == "smoketest_test_outcome":
            value = "1.0" if 'outcome="failed"' in labels else "0.0"
        return f"{name}{labels} {value}"

    return _SAMPLE.sub(sample, page).encode()


def served(templates: dict[str, bytes]) -> AbstractContextManager[int]:
    """Serve the templates by path; the value of the context is the port."""

    def page_of(path: str, _port: int) -> Page:
        now, duration = f"{time.time():.3f}", f"{random.uniform(0.001, 0.2):.6f}"  # noqa: S311
        body = templates[path]
        body = body.replace(b"@NOW@", now.encode()).replace(b"@DURATION@", duration.encode())
        return Page("text/plain; version=0.0.4; charset=utf-8", body)

    return serve(page_of)


# Prometheus


def dropping(metrics: str) -> list[dict[str, object]]:
    """Return the `metric_relabel_configs` that drop metrics whose names match a pattern."""
    return [{"source_labels": ["__name__"], "regex": metrics, "action": "drop"}]


class Fleet(Prometheus):
    """A Prometheus server that scrapes the instances and contains an hour of earlier samples."""

    ready_within = 120.0
    per_job = PER_JOB
    #: Seconds between evaluations.
    evaluate_every = EVALUATE_EVERY

    #: Metrics with earlier samples, and the seconds that they cover and that lie between them.
    past: Mapping[str, tuple[int, int]] = {SUCCESS: (3600, REAL_SCRAPE_EVERY)}

    def __init__(
        self, port: int, instances: int, page: str, *, scrape_every: int, drop: str = ""
    ) -> None:
        jobs = -(-instances // self.per_job)
        relabel = dropping(drop) if drop else []
        self.names = [
            (f"site-{number % jobs:03d}", f"host-{number:04d}:8000") for number in range(instances)
        ]
        scrapes: dict[str, list[dict[str, object]]] = {}
        for number, (job, name) in enumerate(self.names):
            path = "/bad" if number % 10 == 0 else "/good"
            scrapes.setdefault(job, []).append(
                {
                    "targets": [f"127.0.0.1:{port}"],
                    "labels": {"instance": name, "__metrics_path__": path},
                }
            )
        super().__init__(
            config={
                "global": {
                    "scrape_interval": f"{scrape_every}s",
                    "scrape_timeout": f"{scrape_every}s",
                    "evaluation_interval": f"{self.evaluate_every}s",
                },
                "rule_files": ["rules/*.yml"],  # added by load_rules()
                "scrape_configs": [
                    {"job_name": job, "static_configs": targets, "metric_relabel_configs": relabel}
                    for job, targets in scrapes.items()
                ],
            }
        )
        self.page = page
        self.scrape_every = scrape_every

    def environment(self) -> dict[str, str]:
        """Exclude proxies and other variables of this process."""
        return clean_environment()

    def prepare(self) -> None:
        """Write the earlier samples as TSDB blocks."""
        super().prepare()
        now = int(time.time())
        path = self.folder / "past.om"
        with path.open("w") as past:
            for metric, (seconds, every) in self.past.items():
                past.write(f"# TYPE {metric} gauge\n")
                times = range(now - seconds, now - REAL_SCRAPE_EVERY, every)
                samples = [m for m in _SAMPLE.finditer(self.page) if m[1] == metric]
                for job, instance in self.names:
                    for sample in samples:
                        labels = f'instance="{instance}",job="{job}",{sample["labels"][1:]}'
                        head = f"{metric}{{{labels} {sample['value']} "
                        past.writelines(f"{head}{at}\n" for at in times)
            past.write("# EOF\n")
        self.run(
            # As long as the blocks of a server with the default retention.
            require("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=36h",
            "openmetrics", "--quiet",
            str(path), str(self.folder / "data"),
        )  # fmt: skip
        path.unlink()

    def load_rules(self) -> None:
        """Load the rules, which starts their evaluation."""
        (self.folder / "rules").mkdir()
        shutil.copy(RULES, self.folder / "rules")
        os.kill(self.pid, signal.SIGHUP)

    def own(self, name: str) -> float:
        """Return the sum of a metric of the server itself, read from its metrics page."""
        text = get(self.port, "/metrics").text
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        if not values:
            raise SystemExit(f"Prometheus has no metric {name}")
        return sum(map(float, values))

    def last_scrapes(self) -> list[float]:
        """Return the duration in seconds of the last scrape of each healthy target."""
        return [
            target["lastScrapeDuration"] for target in self.targets() if target["health"] == "up"
        ]

    def evaluations(self, rounds: int) -> Iterator[dict[str, Any]]:
        """Yield the rule group after each evaluation."""
        seen = {"0001-01-01T00:00:00Z"}
        while len(seen) <= rounds:
            for group in self.api("rules")["groups"]:
                if group["lastEvaluation"] not in seen:
                    seen.add(group["lastEvaluation"])
                    yield group
            time.sleep(0.1)


class Sites(Fleet):
    """A server that scrapes sites with several replicas each."""

    per_job = BOARD_REPLICAS
    #: Longer than an evaluation and a query take, so that they do not compete.
    evaluate_every = 15

    def rules_seconds(self, rounds: int) -> float:
        """Return the shortest duration of an evaluation of all rules, as `time` does of queries."""
        instances = len(self.names)
        wait_for(
            self.last_scrapes, lambda found: len(found) == instances, within=300,
            what="a scrape of every target", every=0.5,
        )  # fmt: skip
        groups = itertools.islice(self.evaluations(rounds + 1), 1, None)  # the first is partial
        return min(group["evaluationTime"] for group in groups)


class Site(Sites):
    """A server that scrapes one site, with the earlier samples that its dashboards query."""

    past: Mapping[str, tuple[int, int]] = {
        SUCCESS: (RANGE, REAL_SCRAPE_EVERY),
        OUTCOME: (RANGE, REAL_SCRAPE_EVERY),
        DURATION: (WEEK, 1800),
    }

    def time(self, query: Query) -> float:
        """Return the duration in seconds of a query as Grafana sends it."""
        (board,) = (board for board in BOARDS if board.name == query.dashboard)
        test = re.search(r'test="([^"]+)"', self.page)
        assert test is not None
        built_in = {"__interval": f"{STEP}s", "__rate_interval": "1m", "__range": f"{RANGE}s"}
        expression = board.interpolate(query.expression, {"test": test[1]}, built_in)
        now = time.time()
        began = time.perf_counter()
        if query.kind == "range":
            self.api(
                "query_range", query=expression, start=f"{now - RANGE}", end=f"{now}",
                step=f"{STEP}",
            )  # fmt: skip
        else:
            self.api("query", query=expression, time=f"{now}")
        return time.perf_counter() - began


class Load(NamedTuple):
    """Resources for a number of instances."""

    title: str
    instances: int
    series: float
    megabytes: float
    #: CPU time per sample.
    cpu_microseconds: float
    #: Seconds.
    scrape: float
    rules: float
    slowest: tuple[tuple[str, float], ...]

    def cores(self, scrape_every: float) -> float:
        """Return the number of CPU cores that scrapes need."""
        return self.cpu_microseconds / 1e6 * self.series / scrape_every


def measure(title: str, fleet: Fleet, rounds: int) -> Load:
    """Wait for a scrape of every target, then measure `rounds` evaluations of the rules."""
    instances = len(fleet.names)
    wait_for(
        fleet.last_scrapes, lambda found: len(found) == instances, within=300,
        what="a scrape of every target", every=0.5,
    )  # fmt: skip
    appended, cpu = (fleet.own(name) for name in (APPENDED, CPU))
    time.sleep(2 * fleet.scrape_every)
    cpu_a_sample = (fleet.own(CPU) - cpu) / (fleet.own(APPENDED) - appended)
    fleet.load_rules()
    durations, rules = [], Counter[str]()
    for group in fleet.evaluations(rounds):
        durations.append(group["evaluationTime"])
        for rule in group["rules"]:
            if rule["health"] == "err":
                raise SystemExit(f"{rule['name']}: {rule['lastError']}")
            rules[rule["name"]] += rule["evaluationTime"] / rounds
    total = fleet.own("prometheus_tsdb_head_series")
    return Load(
        title=title,
        instances=instances,
        series=total,
        megabytes=fleet.own("process_resident_memory_bytes") / 1e6,
        cpu_microseconds=cpu_a_sample * 1e6,
        scrape=statistics.median(fleet.last_scrapes()),
        rules=statistics.median(durations),
        slowest=tuple(rules.most_common(5)),
    )


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure all sizes in sequence."""
    need("prometheus", "promtool")
    findings = Findings()
    tests = 20 if options.quick else TESTS
    scrape_every = 1 if options.quick else SCRAPE_EVERY
    sizes = options.instances or ([10] if options.quick else [25, 50, 100])
    folder = stack.enter_context(_temporary())
    page = exposition(options.environments[OURS.name], folder, tests)
    names = sorted({m[1] for m in re.finditer(r'test="([^"]+)"', page)})
    templates = {"/good": make_template(page), "/bad": make_template(page, tuple(names[:2]))}
    port = stack.enter_context(served(templates))
    _calculate(findings, page, tests)
    loads = []
    for size in sizes:
        with Fleet(port, size, page, scrape_every=scrape_every) as fleet:
            loads.append(measure(f"{size}", fleet, options.rounds))
        print(f"Measured {size} instances.", flush=True)
    if not options.quick:
        drop = Fleet(port, sizes[-1], page, scrape_every=scrape_every, drop=DROPPED)
        with drop as fleet:
            loads.append(measure(f"{sizes[-1]}, with dropped metrics", fleet, options.rounds))
    _report(findings, loads, tests)
    page = (
        page if options.quick else exposition(options.environments[OURS.name], folder, BOARD_TESTS)
    )
    _measure_site(findings, options, page)
    if not options.quick:  # the alerts take minutes until they fire
        _measure_alerts(findings, options, page)
    return findings


def _measure_site(findings: Findings, options: argparse.Namespace, page: str) -> None:
    """Measure the rules and the dashboards of one site with several replicas."""
    body = make_template(page)
    tests = len({m[1] for m in re.finditer(r'test="([^"]+)"', page)})
    of_site = f"one site with {tests:,} tests on {BOARD_REPLICAS} replicas"
    with (
        served({"/good": body, "/bad": body}) as port,
        Site(port, BOARD_REPLICAS, page, scrape_every=SCRAPE_EVERY) as site,
    ):
        site.load_rules()
        rules = site.rules_seconds(options.rounds)
        queries = [
            query
            for board in BOARDS
            for query in board.queries
            if query.kind != "series" and "django_http" not in query.expression
        ]
        durations = {str(query): min(site.time(query) for _ in range(2)) for query in queries}
    slowest = sorted(durations.items(), key=lambda pair: -pair[1])[:10]
    findings.add(
        f"All rules and the slowest of {len(queries)} dashboard queries, for {of_site}:",
        table(
            ("rules, or panel and query", "ms"),
            [
                ("all rules", f"{rules * 1000:,.0f}"),
                *((name, f"{seconds * 1000:,.0f}") for name, seconds in slowest),
            ],
        ),
    )
    findings.aims.append(Aim("slowest dashboard query / all rules", slowest[0][1] / rules, 1))
    print("Measured the dashboards.", flush=True)


def _measure_alerts(findings: Findings, options: argparse.Namespace, page: str) -> None:
    """Measure the rules of several sites while all tests pass, and while all of them fail."""
    names = tuple(sorted({m[1] for m in re.finditer(r'test="([^"]+)"', page)}))
    alerts, instances = ALERT_SITES * len(names), ALERT_SITES * BOARD_REPLICAS
    durations = {}
    for state, failing in (("no alerts", ()), (f"{alerts:,} firing alerts", names)):
        body = make_template(page, failing)
        with (
            served({"/good": body, "/bad": body}) as port,
            Sites(port, instances, page, scrape_every=SCRAPE_EVERY) as sites,
        ):
            sites.load_rules()
            if failing:
                firing = "count(ALERTS{alertname='SmokeTestFailing', alertstate='firing'})"
                wait_for(
                    functools.partial(sites.query, firing),
                    lambda found: found and found[0].value == alerts,
                    within=900,
                    what=f"{alerts} firing alerts",
                    every=5,
                )
            durations[state] = sites.rules_seconds(options.rounds)
    size = f"{len(names):,} tests on {BOARD_REPLICAS} replicas"
    rows = [(state, f"{seconds * 1000:,.0f}") for state, seconds in durations.items()]
    findings.add(f"All rules, for {ALERT_SITES} sites with {size}:", table(("state", "ms"), rows))
    idle, firing = durations.values()
    findings.aims.append(Aim(f"all rules, {alerts:,} firing alerts / no alerts", firing / idle, 2))


@contextmanager
def _temporary() -> Iterator[Path]:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - only used here

    with TemporaryDirectory(prefix="smoketest-bench-") as name:
        yield Path(name)


def _calculate(findings: Findings, page: str, tests: int) -> None:
    """Report the number of series, calculated from one metrics page."""
    found = series(page)
    rules = RULES.read_text()
    dashboards = "".join(path.read_text() for path in sorted(DASHBOARDS.glob("*.json")))

    def is_in(name: str, text: str) -> str:
        return "yes" if re.search(rf"\b{name}\b", text) else "no"

    rows = [
        (
            f"`{name}`",
            f"{count / tests:g}",
            f"{count * FLEET:,}",
            is_in(name, rules),
            is_in(name, dashboards),
        )
        for name, count in found.most_common()
        if count >= tests
    ]
    rest = sum(count for count in found.values() if count < tests)
    total = found.total()
    rows += [
        ("all others", "", f"{rest * FLEET:,}", "", ""),
        ("total", f"{total / tests:.1f}", f"{total * FLEET:,}", "", ""),
    ]
    head = (
        "metric", "series per test", f"series of {FLEET:,} instances", "in a rule",
        "in a dashboard",
    )  # fmt: skip
    findings.add(
        f"Series of {FLEET:,} instances with {tests} tests each, which are"
        f" {total * FLEET / REAL_SCRAPE_EVERY:,.0f} samples/s at one scrape per minute:",
        table(head, rows),
    )


def _report(findings: Findings, loads: list[Load], tests: int) -> None:
    head = (
        "instances", "series", "memory, MB", "bytes per series", "CPU per sample, µs",
        "median scrape, ms", "all rules, ms", "rules per instance, ms",
    )  # fmt: skip
    rows = [
        (
            load.title,
            f"{load.series:,.0f}",
            f"{load.megabytes:,.0f}",
            f"{load.megabytes * 1e6 / load.series:,.0f}",
            f"{load.cpu_microseconds:.2f}",
            f"{load.scrape * 1000:.0f}",
            f"{load.rules * 1000:,.0f}",
            f"{load.rules * 1000 / load.instances:.2f}",
        )
        for load in loads
    ]
    findings.add(f"Measured, with {tests} tests per instance:", table(head, rows))
    extrapolated = []
    for load in loads[-2:]:
        times = FLEET / load.instances
        extrapolated.append(
            (
                f"{FLEET:,}" + ("" if load.title.isdigit() else ", with dropped metrics"),
                f"{load.series * times / 1e6:.2f}",
                f"{load.megabytes * times / 1000:.1f}",
                f"{load.series * times / REAL_SCRAPE_EVERY:,.0f}",
                f"{load.cores(REAL_SCRAPE_EVERY) * times:.2f}",
                f"{load.rules * times:.1f}",
            )
        )
    head = (
        "instances", "million series", "memory, GB", "samples/s", "cores for scrapes",
        "all rules, s",
    )  # fmt: skip
    findings.add(
        f"Extrapolated, at one scrape every {REAL_SCRAPE_EVERY} s:", table(head, extrapolated)
    )
    largest = [load for load in loads if load.title.isdigit()][-1]
    findings.add(
        f"Slowest rules with {largest.instances} instances:",
        table(("rule", "ms"), [(f"`{name}`", f"{s * 1000:,.0f}") for name, s in largest.slowest]),
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instances", type=whole(1, 2000), action="append", help="number of instances (repeatable)"
    )


if __name__ == "__main__":
    run("fleet", __doc__, main, peers=(OURS,), add_options=_options)
