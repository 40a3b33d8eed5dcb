"""Shared code of the benchmarks: environments, rounds, tables, and writing docs/performance.md."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

PAGE = CHECKOUT / "docs" / "performance.md"
#: The page with the targets of the benchmarks.
TARGETS_PAGE = HERE / "README.md"
#: Minimum number of rounds for results in the page.
ROUNDS = 5
#: Prefixes of environment variables that could change the behavior of a site.
_FOREIGN = (
    "BENCHMARK_", "DJANGO_", "GUNICORN_", "PROMETHEUS_", "PYTHON", "SMOKETEST_",
    "STATE_DIRECTORY", "VIRTUAL_ENV", "WATCHMAN_",
)  # fmt: skip

# Environments


@dataclass(frozen=True)
class Peer:
    """A package to measure, in its own virtual environment."""

    name: str
    #: Requirements in addition to `COMMON`.
    requirements: tuple[str, ...]
    #: Distributions whose versions are reported.
    reported: tuple[str, ...]
    #: Whether the package is imported from this checkout.
    is_ours: bool = False


COMMON = ("Django", "gunicorn", "psycopg[binary]")
OURS = Peer("us", ("filelock", "prometheus-client"), ("Django", "psycopg", "gunicorn"), True)
VERSION_1 = Peer("django-smoketest 1.2.2", ("django-smoketest==1.2.2",), ())
HEALTH_CHECK = Peer("django-health-check", ("django-health-check",), ("django-health-check",))
WATCHMAN = Peer("django-watchman", ("django-watchman",), ("django-watchman",))
PEERS = (VERSION_1, HEALTH_CHECK, WATCHMAN)


def make_environment(cache: Path, name: str, requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages; create it unless it exists."""
    key = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{key}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"Installing {', '.join(requirements)} into {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        complete.touch()
    return python


@dataclass(frozen=True)
class Environment:
    """Virtual environment of a peer."""

    peer: Peer
    python: Path

    @classmethod
    def make(cls, peer: Peer, cache: Path) -> Self:
        """Return the environment of a peer; create it unless it exists."""
        name = peer.name.split()[0].replace("us", "ours") if peer.is_ours else peer.name.split()[0]
        return cls(peer, make_environment(cache, name, (*COMMON, *peer.requirements)))

    def variables(self, folder: Path, **variables: str) -> dict[str, str]:
        """Return the environment variables of a process that runs `bench_site`.

        The checkout is importable only for django-smoketest 2, since 1.x has the same package name.
        """
        paths = [HERE, CHECKOUT] if self.peer.is_ours else [HERE]
        return clean_environment() | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "DJANGO_SETTINGS_MODULE": "bench_site.settings",
            "BENCHMARK_PEER": self.peer.name,
            "BENCHMARK_FOLDER": str(folder),
            **variables,
        }

    def versions(self) -> dict[str, str]:
        """Return the versions by distribution."""
        code = (
            "import json, sys; from importlib.metadata import version\n"
            "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
        )
        done = subprocess.run(
            [self.python, "-c", code, *self.peer.reported], stdout=subprocess.PIPE, check=True
        )
        versions: dict[str, str] = json.loads(done.stdout)
        return versions


def clean_environment() -> dict[str, str]:
    """Return the environment variables of this process, except `_FOREIGN` ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def need(*programs: str) -> None:
    """Exit with the packages to install if a program is missing."""
    from tests.servers.services import PACKAGES, find  # noqa: PLC0415 - needs pytest

    missing = sorted({PACKAGES.get(name, name) for name in programs if find(name) is None})
    if missing:
        raise SystemExit(f"Programs are missing. Run: apt-get install {' '.join(missing)}")


# Measuring processes


class Worker:
    """A process that executes a contender on request and returns the duration."""

    def __init__(
        self, environment: Environment, folder: Path, contender: str, **variables: str
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._name = f"{environment.peer.name}, {contender}"
        self._process = subprocess.Popen(
            [environment.python, "-m", "bench_site.measure", contender],
            cwd=folder,
            env=environment.variables(folder, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()

    def measure(self) -> float:
        """Execute the contender once and return the duration in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            print("go", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} exited with code {self._process.wait()}")
        return float(line)


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Alternate between the contenders and return their values; a warm-up round is discarded."""
    for measure in contenders.values():
        measure()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


# Output


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def quantile(values: Sequence[float], percent: int) -> float:
    """Return a percentile."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; all columns except the first contain numbers."""
    lines = [head, ("---", *("---:",) * (len(head) - 1)), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def comparison(
    rounds: Mapping[str, Sequence[float]], *, us: str, baseline: str, unit: float = 1000
) -> str:
    """Return a table that compares durations in seconds, multiplied by `unit`."""
    rows = []
    for name, seconds in rounds.items():
        values = [value * unit for value in seconds]
        rows.append(
            (
                name,
                f"{statistics.median(values):,.1f}",
                f"{min(values):,.1f} to {max(values):,.1f}",
                f"{ratio(seconds, rounds[baseline]):.2f}",
                "" if name == us else f"{ratio(rounds[us], seconds):.2f}",
            )
        )
    return table(("", "median, ms", "range", "/ baseline", "ratio"), rows)


@dataclass(frozen=True)
class Aim:
    """A target of a benchmark and the measured value."""

    text: str
    measured: float
    limit: float
    unit: str = ""
    #: Whether the limit is a minimum.
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the measured value, rounded as displayed, meets the limit."""
        measured = round(self.measured, 2)
        return measured >= self.limit if self.at_least else measured <= self.limit

    @property
    def row(self) -> tuple[str, str, str, str]:
        """The row in the table of targets."""
        sign = "at least" if self.at_least else "at most"
        return (
            self.text,
            f"{sign} {self.limit:g}{self.unit}",
            f"{self.measured:.3g}{self.unit}",
            "yes" if self.is_met else "**no**",
        )


@dataclass
class Findings:
    """Results of a benchmark: tables with titles, and targets."""

    parts: list[str] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)

    def add(self, title: str, text: str) -> None:
        """Add a table and print it."""
        part = f"{title}\n\n{text}"
        self.parts.append(part)
        print(f"\n{part}", flush=True)


def machine() -> str:
    """Return the number of usable cores, the processor, the memory and the operating system."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def load_average() -> str:
    """Return the load average of the last minute; a high one before a benchmark distorts it."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


# Command line and page


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for an integer in a range."""

    def convert(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return number

    return convert


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the directory of the environments, which is outside the checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=cache / "django-smoketest-benchmarks")


Measure = Callable[[argparse.Namespace, ExitStack], Findings]


def run(
    name: str,
    description: str | None,
    measure: Measure,
    *,
    peers: Sequence[Peer] = (OURS, *PEERS),
    add_options: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> None:
    """Run a benchmark script: parse options, create environments, measure, and write the page.

    `measure` receives the options, whose `environments` maps the names of peers to environments,
    and a stack for context managers.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=whole(1, 50), default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="run with tiny sizes, to check that it works"
    )
    parser.add_argument(
        "--without-peers",
        action="store_true",
        help="only django-smoketest and the baseline, in the current environment",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"write the results into {PAGE.relative_to(CHECKOUT)}"
    )
    add_cache_option(parser)
    add_options(parser)
    options = parser.parse_args()
    if options.write and (options.quick or options.without_peers or options.rounds < ROUNDS):
        parser.error(f"--write requires the complete benchmark with at least {ROUNDS} rounds")
    if options.quick:
        options.rounds = 1
    before = load_average()
    if options.without_peers:
        options.environments = {OURS.name: Environment(OURS, Path(sys.executable))}
    else:
        options.environments = {peer.name: Environment.make(peer, options.cache) for peer in peers}
    surroundings = f"{machine()}; {_versions(options.environments.values())}"
    print(f"{surroundings}; load before: {before}", flush=True)
    with ExitStack() as stack:
        findings = measure(options, stack)
    day = datetime.datetime.now(datetime.UTC).date()
    where = (
        f"{surroundings}; medians of {options.rounds} rounds; {day}; load before {before}, after"
        f" {load_average()}."
    )
    targets = table(("target", "limit", "measured", "met"), [aim.row for aim in findings.aims])
    if findings.aims:
        print(f"\nTargets:\n\n{targets}", flush=True)
    if options.write:
        write_section(name, "\n".join([f"{where}\n", *findings.parts]))
        if findings.aims:
            write_section(name, targets, TARGETS_PAGE)


def _versions(environments: Iterable[Environment]) -> str:
    from smoketest import __version__  # noqa: PLC0415 - imported from the checkout

    found = {"django-smoketest": __version__}
    for environment in environments:
        found |= environment.versions()
    named = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"Python {platform.python_version()}, {named}"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace the text between the two comments of a benchmark in a page."""
    before, begin, rest = page.read_text().partition(begin_of(name))
    _, end, after = rest.partition(end_of(name))
    if not (begin and end):
        raise SystemExit(f"{page} has no section for {name}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")


def begin_of(name: str) -> str:
    """Return the comment before the results of a benchmark."""
    return f"<!-- BEGIN {name}: written by python benchmarks/{name}.py --write -->\n"


def end_of(name: str) -> str:
    """Return the comment after the results of a benchmark."""
    return f"<!-- END {name} -->\n"


def as_variable(value: Any) -> str:
    """Return a value encoded for the environment variables of `bench_site.settings`."""
    return json.dumps(value)
