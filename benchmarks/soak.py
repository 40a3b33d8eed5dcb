"""Run the smoke tests of the example thousands of times in one process, with faults and hangs.

``python benchmarks/soak.py [--runs 10000] [--database sqlite|postgresql|mariadb]``

In every tenth run, a smoke test misbehaves: it raises an exception, loses its connection, causes an
`IntegrityError`, writes rows that violate a deferred constraint, or executes COMMIT. In every
hundredth run, a test hangs. A table reports the resources of the process and the database after
each tenth of the runs. The exit code is 1 if any of them keeps growing.

Requirements are those of the test suite: Django, the package, and for PostgreSQL and MariaDB the
server programs and a driver. The script starts its own server.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import linear_regression

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.servers.mariadb import MariaDB  # noqa: E402 - the path is set above
from tests.servers.postgresql import PostgreSQL  # noqa: E402

FAULT_EVERY = 10
HANG_EVERY = 100
#: Maximum time in seconds to wait for the threads of hanging tests before a reading.
SETTLE = 5.0
#: Allowed growth of memory after the first tenth: MB, and MB per thousand runs.
MEMORY_SLACK = 4.0
MEMORY_SLOPE = 0.5

DATABASES = {"sqlite": None, "postgresql": PostgreSQL, "mariadb": MariaDB}


@dataclass(frozen=True, slots=True)
class Reading:
    """Resources of the process after a number of runs."""

    runs: int
    seconds: float
    #: Threads of the operating system, including those of libraries.
    threads: int
    #: Connections of this process on the database server; 0 with SQLite.
    server_connections: int
    #: Open private connections of smoke tests.
    private_connections: int
    files: int
    #: Resident memory in MB.
    memory: float
    #: Size of the state directory in MB.
    store: float

    HEADER = (
        "| runs | seconds | threads | connections on the server | private connections"
        " | file descriptors | memory, MB | results store, MB |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )

    def __str__(self) -> str:
        return (
            f"| {self.runs:,} | {self.seconds:.0f} | {self.threads} | {self.server_connections}"
            f" | {self.private_connections} | {self.files} | {self.memory:.1f} | {self.store:.1f} |"
        )


def growth(readings: Sequence[Reading]) -> Iterator[str]:
    """Yield the resources that grow: by a thread, connection or file, or by too much memory."""
    first, *_, last = readings
    for name in ("threads", "server_connections", "private_connections", "files"):
        before, after = getattr(first, name), getattr(last, name)
        if after > before:
            yield f"{name.replace('_', ' ')}: {before} -> {after}"
    runs = last.runs - first.runs
    allowed = MEMORY_SLACK + MEMORY_SLOPE * runs / 1000
    for name in ("memory", "store"):
        values = [getattr(reading, name) for reading in readings]
        slope = linear_regression([reading.runs for reading in readings], values).slope
        if slope * runs > allowed:
            yield f"{name}: {slope * runs:.1f} MB more; the limit is {allowed:.1f} MB"


class Soak:
    """The site in this process, and its resources."""

    def __init__(self, server: PostgreSQL | MariaDB | None, state: Path) -> None:
        from soak_site import smoke  # noqa: PLC0415

        from smoketest.results import Selection  # noqa: PLC0415
        from smoketest.services import coordinator  # noqa: PLC0415 - requires django.setup()

        self._coordinator = coordinator()
        self._everything = Selection()
        self._smoke = smoke
        self._faults, self._hangs = cycle(smoke.FAULTS), cycle(smoke.HANGS)
        self._state = state
        self._count_connections = _connection_counter(server)
        self._started = time.monotonic()
        self.done = 0

    def run_once(self) -> None:
        """Run the suite once and check its outcomes."""
        self.done += 1
        name = self._next_action()
        self._smoke.now = name
        report = self._coordinator.run(self._everything, wait=0).report
        problems = {str(result.outcome) for result in report.problems}
        expected = self._outcomes_of(name)
        if not problems <= expected or bool(problems) != bool(expected):
            found = [(result.id, str(result.outcome), result.message) for result in report.problems]
            raise SystemExit(f"Run {self.done} ({name or 'no fault'}): {found}")
        if name in self._smoke.HANG_NAMES:
            self._settle()  # the next hang must not find the test still running

    def _next_action(self) -> str:
        """Return the name of the fault or hang of this run, in rotation; or ""."""
        if self.done % HANG_EVERY == 0:
            return str(next(self._hangs).__name__)
        if self.done % FAULT_EVERY == 0:
            return str(next(self._faults).__name__)
        return ""

    def _outcomes_of(self, name: str) -> set[str]:
        """Return the outcomes that may occur, of which at least one must."""
        if not name:
            return set()
        return {"timed_out"} if name in self._smoke.HANG_NAMES else {"errored", "failed"}

    def _settle(self) -> None:
        """Wait until the abandoned threads end."""
        until = time.monotonic() + SETTLE
        while time.monotonic() < until and any(
            thread.name.startswith("smoketest") for thread in threading.enumerate()
        ):
            time.sleep(0.01)

    def read(self) -> Reading:
        """Return the current resources."""
        self._settle()
        gc.collect()
        _give_back_freed_memory()
        return Reading(
            runs=self.done,
            seconds=time.monotonic() - self._started,
            threads=len(os.listdir("/proc/self/task")),  # noqa: PTH208
            server_connections=self._count_connections(),
            private_connections=_open_private_connections(),
            files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            memory=_resident_megabytes(),
            store=sum(file.stat().st_size for file in self._state.iterdir()) / 1e6,
        )


def _open_private_connections() -> int:
    from smoketest.isolation.connection import PrivateConnection  # noqa: PLC0415

    return sum(
        1
        for thing in gc.get_objects()
        # Not isinstance(), which would evaluate lazy objects of Django.
        if issubclass(type(thing), PrivateConnection) and thing.connection is not None
    )


def _give_back_freed_memory() -> None:
    """Return freed memory to the system if the C library can, so that it is not measured."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def _connection_counter(server: PostgreSQL | MariaDB | None) -> Callable[[], int]:
    """Return a function that counts the connections of the server, except its own."""
    if isinstance(server, PostgreSQL):
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    elif isinstance(server, MariaDB):
        query = (
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE id <> CONNECTION_ID() AND command <> 'Daemon'"
        )
    else:
        return lambda: 0
    return lambda: int(server.sql(query))


def set_up(folder: Path, server: PostgreSQL | MariaDB | None) -> None:
    """Configure Django in this process, and create the databases."""
    sys.path[:0] = [str(ROOT / "example"), str(ROOT / "benchmarks")]
    os.environ.update(
        DJANGO_SETTINGS_MODULE="soak_site.settings",
        EXAMPLE_DATA_DIR=str(folder / "data"),
        EXAMPLE_DATABASE=server.url if server else "",
        EXAMPLE_SLEEP="0.001",
        EXAMPLE_BREAK="",
    )
    import django  # noqa: PLC0415 - the environment is set above
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    django.setup()
    logging.disable()  # thousands of intended failures
    call_command("prepare_shop", verbosity=0)
    connections.close_all()


def soak(runs: int, database: str) -> list[str]:
    """Run the suite, print the table, and return the resources that grow."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smoketest-soak-")))
        make = DATABASES[database]
        server = stack.enter_context(make()) if make else None
        set_up(folder, server)
        soak = Soak(server, folder / "data" / "smoketest")
        print(f"{runs:,} runs on {database}, Python {platform.python_version()}\n")
        print(Reading.HEADER, flush=True)
        readings = []
        for tenth in range(1, 11):
            while soak.done < runs * tenth // 10:
                soak.run_once()
            readings.append(soak.read())
            print(readings[-1], flush=True)
        return list(growth(readings))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak test and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    options = parser.parse_args(arguments)
    if options.runs < 10:
        parser.error("--runs must be at least 10")
    growing = soak(options.runs, options.database)
    print("\nFlat." if not growing else "\nNot flat:\n" + "\n".join(growing))
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
