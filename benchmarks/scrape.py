"""Throughput and latency of `/smoketest/metrics`, compared with a baseline and other packages.

A Django site under gunicorn serves all contenders, which receive the same load alternately. Other
packages are measured with 1,000 tests, the rest with 10 to 10,000. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import math
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness import (
    CHECKOUT,
    HERE,
    Aim,
    Findings,
    clean_environment,
    make_environment,
    quantile,
    run,
    table,
    whole,
)

REQUIREMENTS = ("Django", "django-health-check", "filelock", "gunicorn", "prometheus-client")
#: Accept header of Prometheus 3.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
START_TIMEOUT = 30.0
RESPONSE_TIMEOUT = 60.0
BUFFER = 1 << 20


class Contender(NamedTuple):
    """A page to measure."""

    name: str
    path: str
    gzip: bool = False


OURS = Contender("/smoketest/metrics", "/smoketest/metrics")
OURS_GZIP = Contender("/smoketest/metrics, gzip", "/smoketest/metrics", gzip=True)
LIMIT = Contender("baseline: the same bytes from memory", "/memory/page.txt")
LIMIT_GZIP = Contender("baseline, gzip", "/memory/page.gz", gzip=True)
MULTIPROCESS = Contender("prometheus_client, multiprocess", "/multiprocess")
HEALTH = Contender("django-health-check", "/health?format=openmetrics")
#: Measured only with `--only`.
REGISTRY = Contender("the collector in a registry", "/registry")
CONTENDERS = (OURS, LIMIT, OURS_GZIP, LIMIT_GZIP, MULTIPROCESS, HEALTH, REGISTRY)
#: Number of tests with which all contenders are measured; otherwise, only the first four are.
SIZE_OF_PEERS = 1000
SIZES = (10, 100, SIZE_OF_PEERS, 10_000)


@dataclass(frozen=True)
class Measurement:
    """Result of one contender in one round."""

    requests_per_second: float
    #: Milliseconds.
    p50: float
    p99: float
    requests: int
    #: CPU time of the site per request in milliseconds, which barely depends on other load.
    cpu: float


# Environment and site


class Site:
    """`scrape_site` in its own directory."""

    def __init__(self, python: Path, folder: Path, tests: int, interval: str) -> None:
        self.python = python
        self.folder = folder
        self.tests = tests
        self._group = 0
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        self.environment = {
            **clean_environment(),
            "PYTHONPATH": f"{HERE}{os.pathsep}{CHECKOUT}",
            "DJANGO_SETTINGS_MODULE": "scrape_site.settings",
            "BENCHMARK_FOLDER": str(folder),
            "BENCHMARK_TESTS": str(tests),
            "BENCHMARK_INTERVAL": interval,
        }

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Python in the environment of the site and return its output."""
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    @contextmanager
    def served(self, workers: int) -> Iterator[None]:
        """Serve the site with sync workers of gunicorn, and stop them afterwards."""
        command = [
            *(str(self.python), "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()"),
            *(f"--workers={workers}", "--worker-class=sync", f"--bind=127.0.0.1:{self.port}"),
            *("--no-control-socket", "--log-level=warning"),
        ]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, start_new_session=True
        )
        self._group = process.pid
        try:
            self._wait_until_ready(process)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def cpu_seconds(self) -> float:
        """Return the CPU time of the processes of the site, or NaN if it is unknown."""
        ticks = 0
        found = False
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._group:
                    found = True
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK") if found else math.nan

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                get(self.port, OURS)
                return
            time.sleep(0.1)
        raise SystemExit("The site did not start.")


# Load


def get(port: int, contender: Contender) -> bytes:
    """Return the body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RESPONSE_TIMEOUT)
    with closing(connection):
        connection.request("GET", contender.path, headers=_headers(contender))
        response = connection.getresponse()
        body = response.read()
    if response.status != 200:
        raise SystemExit(f"{contender.path} returned status {response.status}")
    return body


def _headers(contender: Contender) -> dict[str, str]:
    return {
        "Accept": ACCEPT,
        "Accept-Encoding": "gzip" if contender.gzip else "identity",
        "X-Prometheus-Scrape-Timeout-Seconds": "10",
        "Connection": "close",
    }


def _load(port: int, contender: Contender, begin_at: float, seconds: float) -> list[float]:
    """Send requests in sequence, each on a new connection, and return their durations.

    Requests that start in time are completed. Responses are not parsed, since the clients share the
    CPU with the site.
    """
    lines = [f"{name}: {value}" for name, value in _headers(contender).items()]
    head = [f"GET {contender.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines]
    request = ("\r\n".join(head) + "\r\n\r\n").encode()
    buffer = bytearray(BUFFER)
    durations = []
    size = 0
    time.sleep(max(0.0, begin_at - time.time()))
    until = begin_at + seconds
    while (began := time.time()) < until or not durations:  # at least one request
        before = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=RESPONSE_TIMEOUT) as connection:
            connection.sendall(request)
            received = connection.recv_into(buffer)
            if not buffer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{contender.path}: {bytes(buffer[:80])!r}")
            while part := connection.recv_into(buffer):
                received += part
        durations.append(time.perf_counter() - before)
        if size and received != size and abs(received - size) > 0.01 * size:
            raise RuntimeError(f"{contender.path}: {received} bytes at {began}, {size} before")
        size = received
    return durations


def measure(
    clients: ProcessPoolExecutor, count: int, site: Site, contender: Contender, seconds: float
) -> Measurement:
    """Run all clients in parallel for `seconds`."""
    cpu = site.cpu_seconds()
    begin_at = time.time() + 0.3
    futures = [clients.submit(_load, site.port, contender, begin_at, seconds) for _ in range(count)]
    durations = sorted(d for future in futures for d in future.result())
    elapsed = time.time() - begin_at
    return Measurement(
        requests_per_second=len(durations) / elapsed,
        p50=quantile(durations, 50) * 1000,
        p99=quantile(durations, 99) * 1000,
        requests=len(durations),
        cpu=(site.cpu_seconds() - cpu) / len(durations) * 1000,
    )


# Output


def report(
    findings: Findings,
    tests: int,
    rounds: dict[Contender, list[Measurement]],
    sizes: dict[Contender, int],
) -> None:
    """Report the median and range of the rounds."""

    def median_ratio(ours: Contender, theirs: Contender) -> float:
        pairs = zip(rounds[ours], rounds[theirs], strict=True)
        return statistics.median(a.requests_per_second / b.requests_per_second for a, b in pairs)

    rows = []
    for contender, measured in rounds.items():
        rates = [m.requests_per_second for m in measured]
        ours = OURS_GZIP if contender.gzip else OURS
        rows.append(
            (
                contender.name,
                f"{statistics.median(rates):,.1f}",
                f"{min(rates):,.1f} to {max(rates):,.1f}",
                f"{median_ratio(ours, contender):.2f}" if contender != ours in rounds else "",
                f"{statistics.median(m.p50 for m in measured):.2f}",
                f"{statistics.median(m.p99 for m in measured):.2f}",
                f"{statistics.median(m.cpu for m in measured):.2f}",
                f"{sizes[contender]:,}",
            )
        )
    head = (
        "", "requests/s", "range", "ratio", "p50, ms", "p99, ms", "CPU, ms", "bytes",
    )  # fmt: skip
    findings.add(f"{tests:,} tests:", table(head, rows))
    if OURS in rounds and LIMIT in rounds:
        findings.aims.append(
            Aim(
                f"{tests:,} tests: django-smoketest / baseline",
                median_ratio(OURS, LIMIT),
                0.8,
                at_least=True,
            )
        )
    if OURS in rounds and MULTIPROCESS in rounds:
        findings.aims.append(
            Aim(
                f"{tests:,} tests: django-smoketest / {MULTIPROCESS.name}",
                median_ratio(OURS, MULTIPROCESS),
                20,
                at_least=True,
            )
        )


def versions(site: Site, distributions: tuple[str, ...]) -> str:
    """Return the versions of the distributions and of django-smoketest."""
    code = (
        "import json, smoketest; from importlib.metadata import version;"
        f"print(json.dumps({{name: version(name) for name in {distributions!r}}}"
        " | {'django-smoketest': smoketest.__version__}))"
    )
    found = json.loads(site.run("-c", code))
    return ", ".join(f"{name} {found[name]}" for name in sorted(found))


# Benchmark


def prepare(site: Site, processes: int, tests: int) -> str:
    """Fill the results store and the directory of prometheus_client; return a summary."""
    site.run("-m", "django", "smoketest", "--verbosity=0")
    (site.folder / "multiprocess").mkdir()
    with site.served(1):
        text = get(site.port, OURS)
        zipped = get(site.port, OURS_GZIP)
    (site.folder / "page.txt").write_bytes(text)
    (site.folder / "page.gz").write_bytes(zipped)
    assert gzip.decompress(zipped) == text
    if f"smoketest_tests {float(tests)}\n" not in text.decode():
        raise SystemExit(f"The page does not contain {tests} tests.")
    for _ in range(processes):
        site.run(
            *("-m", "scrape_site.fill", "page.txt"),
            PROMETHEUS_MULTIPROC_DIR=str(site.folder / "multiprocess"),
        )
    return f"{samples(text)} samples of {tests} tests"


def samples(exposition: bytes) -> int:
    """Return the number of lines except comments."""
    return sum(not line.startswith(b"#") for line in exposition.splitlines())


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure all sizes."""
    findings = Findings()
    python = Path(sys.executable)
    if not options.without_peers:
        python = make_environment(options.cache, "scrape", REQUIREMENTS)
    distributions = REQUIREMENTS if not options.without_peers else ("Django", "gunicorn")
    if options.quick:
        options.seconds, options.tests = 0.2, options.tests or [10]
    options.clients = options.clients or options.workers
    context = multiprocessing.get_context("spawn")
    clients = stack.enter_context(ProcessPoolExecutor(options.clients, mp_context=context))
    for tests in options.tests or SIZES:
        with tempfile.TemporaryDirectory(prefix="smoketest-scrape-") as folder:
            site = Site(python, Path(folder), tests, options.interval)
            if options.without_peers:
                site.environment["BENCHMARK_PEERS"] = "no"
            contenders = choose(options, tests)
            done = prepare(site, options.workers if MULTIPROCESS in contenders else 0, tests)
            if not findings.parts:
                findings.add(
                    f"{versions(site, distributions)}; gunicorn with {options.workers} sync"
                    f" workers, no middleware; {options.clients} clients, one connection per"
                    f" request; {options.rounds} alternating rounds of {options.seconds:g} s each.",
                    "",
                )
            print(done, flush=True)
            with site.served(options.workers):
                run_rounds(findings, site, clients, contenders, options)
    return findings


def choose(options: argparse.Namespace, tests: int) -> list[Contender]:
    """Return the contenders for a number of tests."""
    if options.without_peers:
        return list(CONTENDERS[:4])
    if options.only:
        return [c for c in CONTENDERS if c.path.startswith(tuple(options.only))]
    with_peers = tests == SIZE_OF_PEERS or options.quick
    return [c for c in CONTENDERS if c != REGISTRY][: None if with_peers else 4]


def run_rounds(
    findings: Findings,
    site: Site,
    clients: ProcessPoolExecutor,
    contenders: list[Contender],
    options: argparse.Namespace,
) -> None:
    """Measure the contenders alternately and report the results."""
    pages = {contender: get(site.port, contender) for contender in contenders}
    if MULTIPROCESS in pages and OURS in pages:
        ours, theirs = samples(pages[OURS]), samples(pages[MULTIPROCESS])
        assert ours == theirs, f"{theirs} samples of prometheus_client, {ours} of django-smoketest"
    sizes = {contender: len(page) for contender, page in pages.items()}
    for contender in contenders:  # warm up every worker
        measure(clients, options.clients, site, contender, min(0.5, options.seconds))
    rounds: dict[Contender, list[Measurement]] = {contender: [] for contender in contenders}
    for _ in range(options.rounds):
        for contender in contenders:
            rounds[contender].append(
                measure(clients, options.clients, site, contender, options.seconds)
            )
    report(findings, site.tests, rounds, sizes)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--tests", type=whole(1, 20_000), action="append",
        help=f"number of tests (repeatable; default: {', '.join(map(str, SIZES))})",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=0.5, help="duration of each measurement")
    parser.add_argument(
        "--workers", type=whole(1, 32), default=4, help="number of gunicorn workers"
    )
    parser.add_argument(
        "--clients", type=whole(1, 32), help="number of clients (default: number of workers)"
    )
    parser.add_argument(
        "--interval",
        choices=("day", "none"),
        default="day",
        help="SMOKETEST_INTERVAL; no run is due during the measurement in either case",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATH",
        help="measure only pages whose path starts with this (repeatable)",
    )


if __name__ == "__main__":
    run("scrape", __doc__, main, peers=(), add_options=add_options)
