"""How fast `/smoketest/metrics` is, beside what it could be and what others do.

One Django site under gunicorn serves everything that is compared; the load is the same, in turns.
See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import http.client
import json
import math
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
REQUIREMENTS = ("Django", "django-health-check", "filelock", "gunicorn", "prometheus-client")
#: What Prometheus 3 sends.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
READY_WITHIN = 30.0
ANSWER_WITHIN = 60.0
BUFFER = 1 << 20


class Contender(NamedTuple):
    """Something that is compared."""

    name: str
    path: str
    gzip: bool = False


OURS = Contender("/smoketest/metrics", "/smoketest/metrics")
OURS_GZIP = Contender("/smoketest/metrics, gzip", "/smoketest/metrics", gzip=True)
LIMIT = Contender("limit: bytes from memory", "/memory/page.txt")
LIMIT_GZIP = Contender("limit, gzip", "/memory/page.gz", gzip=True)
MULTIPROCESS = Contender("prometheus_client, multiprocess", "/multiprocess")
HEALTH = Contender("django-health-check", "/health?format=openmetrics")
REGISTRY = Contender("our collector in a registry", "/registry")
CONTENDERS = (OURS, LIMIT, OURS_GZIP, LIMIT_GZIP, MULTIPROCESS, HEALTH, REGISTRY)


@dataclass(frozen=True)
class Measurement:
    """One contender in one round."""

    requests_per_second: float
    #: Milliseconds
    p50: float
    p99: float
    requests: int
    #: Milliseconds of processor time that the site took for a request; hardly changed by what
    #: else the machine does.
    cpu: float


# The environment and the site


def make_environment(cache: Path) -> Path:
    """The Python of an environment with what is compared; made once, then used again."""
    name = hashlib.sha256("\n".join((sys.version, *REQUIREMENTS)).encode()).hexdigest()[:12]
    folder = cache / f"scrape-{name}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"Installing {', '.join(REQUIREMENTS)} into {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        complete.touch()
    return python


class Site:
    """The site of `scrape_site`, in a folder of its own."""

    def __init__(self, python: Path, folder: Path, tests: int, interval: str) -> None:
        self.python = python
        self.folder = folder
        self._group = 0
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        foreign = ("SMOKETEST_", "DJANGO_", "PROMETHEUS_", "GUNICORN_", "PYTHON", "STATE_DIRECTORY")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PYTHONPATH": f"{HERE}{os.pathsep}{CHECKOUT}",
            "DJANGO_SETTINGS_MODULE": "scrape_site.settings",
            "BENCHMARK_FOLDER": str(folder),
            "BENCHMARK_TESTS": str(tests),
            "BENCHMARK_INTERVAL": interval,
        }

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Python in the surroundings of the site."""
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
        """Serve it with gunicorn's sync workers; they are gone afterwards."""
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
        """Processor time that its processes have taken; not a number where that is not known."""
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
        deadline = time.monotonic() + READY_WITHIN
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                get(self.port, OURS)
                return
            time.sleep(0.1)
        raise SystemExit("The site did not start.")


# The load


def get(port: int, contender: Contender) -> bytes:
    """The body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_WITHIN)
    with closing(connection):
        connection.request("GET", contender.path, headers=_headers(contender))
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{contender.path} answered {answer.status}")
    return body


def _headers(contender: Contender) -> dict[str, str]:
    return {
        "Accept": ACCEPT,
        "Accept-Encoding": "gzip" if contender.gzip else "identity",
        "X-Prometheus-Scrape-Timeout-Seconds": "10",
        "Connection": "close",
    }


def _load(port: int, contender: Contender, begin_at: float, seconds: float) -> list[float]:
    """What one client does: request after request, each over a fresh connection.

    Returns the durations; a request that has begun in time is waited for. The answer is received
    with as little work as possible, since the clients share the cores with the site.
    """
    lines = [f"{name}: {value}" for name, value in _headers(contender).items()]
    head = [f"GET {contender.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines]
    request = ("\r\n".join(head) + "\r\n\r\n").encode()
    buffer = bytearray(BUFFER)
    durations = []
    size = 0
    time.sleep(max(0.0, begin_at - time.time()))
    until = begin_at + seconds
    while (began := time.time()) < until:
        before = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN) as connection:
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
    """All clients at once, for so long."""
    cpu = site.cpu_seconds()
    begin_at = time.time() + 0.3
    futures = [clients.submit(_load, site.port, contender, begin_at, seconds) for _ in range(count)]
    durations = sorted(d for future in futures for d in future.result())
    elapsed = time.time() - begin_at
    cuts = statistics.quantiles(durations, n=100, method="inclusive")
    return Measurement(
        requests_per_second=len(durations) / elapsed,
        p50=cuts[49] * 1000,
        p99=cuts[98] * 1000,
        requests=len(durations),
        cpu=(site.cpu_seconds() - cpu) / len(durations) * 1000,
    )


# What is printed


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {model}, {platform.system()} {platform.release()}"


def load_average() -> str:
    """Of the last minute. If it is high before the measurement, others disturb it."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def report(rounds: dict[Contender, list[Measurement]], sizes: dict[Contender, int]) -> None:
    """Medians of the rounds, and how far these lie apart."""
    print(
        f"\n{'':32}{'requests/s':>11}{'least':>9}{'most':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'CPU ms':>9}{'requests':>10}{'bytes':>11}"
    )
    medians = {}
    for contender, measured in rounds.items():
        rates = [m.requests_per_second for m in measured]
        medians[contender] = statistics.median(rates)
        print(
            f"{contender.name:32}{medians[contender]:11.1f}{min(rates):9.1f}{max(rates):9.1f}"
            f"{statistics.median(m.p50 for m in measured):9.2f}"
            f"{statistics.median(m.p99 for m in measured):9.2f}"
            f"{statistics.median(m.cpu for m in measured):9.2f}"
            f"{sum(m.requests for m in measured):10}{sizes[contender]:11}"
        )
    print("\nRatios of requests/s, the median of the rounds' own ratios (least to most)")
    for ours, peers in (
        (OURS, (LIMIT, MULTIPROCESS, HEALTH)),
        (OURS_GZIP, (LIMIT_GZIP, MULTIPROCESS, HEALTH)),
    ):
        for peer in peers:
            if ours not in rounds or peer not in rounds:
                continue
            ratios = [
                a.requests_per_second / b.requests_per_second
                for a, b in zip(rounds[ours], rounds[peer], strict=True)
            ]
            cpu = [b.cpu / a.cpu for a, b in zip(rounds[ours], rounds[peer], strict=True)]
            print(
                f"{ours.name} / {peer.name}: {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f});"
                f" by the site's processor time {statistics.median(cpu):.2f}"
            )


def versions(site: Site) -> str:
    """Of all that takes part."""
    code = (
        "import json, smoketest; from importlib.metadata import version;"
        f"print(json.dumps({{name: version(name) for name in {REQUIREMENTS!r}}}"
        " | {'django-smoketest': smoketest.__version__}))"
    )
    found = json.loads(site.run("-c", code))
    names = ", ".join(f"{name} {found[name]}" for name in sorted(found))
    return f"Python {platform.python_version()}, {names}"


# The whole


def prepare(site: Site, processes: int, tests: int) -> str:
    """Fill the results store and the folder of prometheus_client; returns what was done."""
    site.run("-m", "django", "smoketest")
    (site.folder / "multiprocess").mkdir()
    with site.served(1):
        text = get(site.port, OURS)
        zipped = get(site.port, OURS_GZIP)
    (site.folder / "page.txt").write_bytes(text)
    (site.folder / "page.gz").write_bytes(zipped)
    assert gzip.decompress(zipped) == text
    if f"smoketest_tests {float(tests)}\n" not in text.decode():
        raise SystemExit(f"The page does not tell of {tests} tests.")
    for _ in range(processes):
        site.run(
            *("-m", "scrape_site.fill", "page.txt"),
            PROMETHEUS_MULTIPROC_DIR=str(site.folder / "multiprocess"),
        )
    return f"{samples(text)} samples of {tests} tests"


def samples(exposition: bytes) -> int:
    """Lines that are no comments."""
    return sum(not line.startswith(b"#") for line in exposition.splitlines())


def main() -> None:
    """Measure and print."""
    options = parse_options()
    print(f"Machine: {machine()}; load before: {load_average()}")
    python = make_environment(options.cache)
    with tempfile.TemporaryDirectory(prefix="smoketest-scrape-") as folder:
        site = Site(python, Path(folder), options.tests, options.interval)
        print(f"Versions: {versions(site)}")
        done = prepare(site, options.workers, options.tests)
        print(
            f"Page: {done}. Server: gunicorn, {options.workers} sync workers, no middleware."
            f" Load: {options.clients} processes, plain sockets, a connection a request."
            f" {options.rounds} rounds of {options.seconds:g} s each, in turns.",
            flush=True,
        )
        context = multiprocessing.get_context("spawn")
        with (
            site.served(options.workers),
            ProcessPoolExecutor(options.clients, mp_context=context) as clients,
        ):
            run(site, clients, options)
    print(f"Load after: {load_average()}")


def run(site: Site, clients: ProcessPoolExecutor, options: argparse.Namespace) -> None:
    """The rounds."""
    only = tuple(options.only or [""])
    contenders = [contender for contender in CONTENDERS if contender.path.startswith(only)]
    pages = {contender: get(site.port, contender) for contender in contenders}
    if MULTIPROCESS in pages and OURS in pages:
        ours, theirs = samples(pages[OURS]), samples(pages[MULTIPROCESS])
        assert ours == theirs, f"{theirs} samples of prometheus_client, {ours} of ours"
    sizes = {contender: len(page) for contender, page in pages.items()}
    for contender in contenders:  # every worker has read what it keeps in memory
        measure(clients, options.clients, site, contender, min(1.0, options.seconds))
    rounds: dict[Contender, list[Measurement]] = {contender: [] for contender in contenders}
    for number in range(options.rounds):
        for contender in contenders:
            rounds[contender].append(
                measure(clients, options.clients, site, contender, options.seconds)
            )
        print(f"Round {number + 1} done; load {load_average()}", flush=True)
    report(rounds, sizes)


def parse_options() -> argparse.Namespace:
    """The options of the command line; counts and times are bounded."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=_whole(1, 5000), default=1000)
    parser.add_argument("--seconds", type=_whole(1, 60), default=3, help="of each measurement")
    parser.add_argument("--workers", type=_whole(1, 32), default=4, help="of gunicorn")
    parser.add_argument("--clients", type=_whole(1, 32), help="as many as there are workers")
    parser.add_argument("--rounds", type=_whole(1, 50), default=5)
    parser.add_argument(
        "--interval",
        choices=("day", "none"),
        default="day",
        help="SMOKETEST_INTERVAL; no run is due during the measurement either way",
    )
    parser.add_argument(
        "--only", action="append", metavar="PATH", help="only what begins so, repeatable"
    )
    parser.add_argument("--cache", type=Path, default=cache / "django-smoketest-benchmarks")
    options = parser.parse_args()
    options.clients = options.clients or options.workers
    return options


def _whole(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return number

    return whole


if __name__ == "__main__":
    main()
