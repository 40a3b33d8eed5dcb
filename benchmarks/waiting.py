"""Suites that wait: 20 tests of 100 ms in 20 classes, without a database or reading PostgreSQL.

The baseline is a single test, including its connection to PostgreSQL if it reads. A variant with 20
threads without a framework shows the cost of 20 simultaneous connections.
"""

from __future__ import annotations

import argparse
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import (
    OURS,
    PEERS,
    VERSION_1,
    Aim,
    Findings,
    Worker,
    as_variable,
    comparison,
    in_turns,
    need,
    ratio,
    run,
)

from tests.servers.postgresql import PostgreSQL

US = "django-smoketest, SMOKETEST_WORKERS = 20"
US_DEFAULT = "django-smoketest, SMOKETEST_WORKERS = 4 (default)"
BASELINE = "baseline"
TESTS = 20
SUITES = {"wait": "without a database", "read_and_wait": "reading from PostgreSQL"}


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure both suites."""
    need("postgres", "initdb", "psql")
    findings = Findings()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smoketest-bench-")))
    server = stack.enter_context(PostgreSQL(max_connections="200"))
    environments = options.environments
    ours = environments[OURS.name]
    tests = 4 if options.quick else TESTS
    variables = {
        "BENCHMARK_TESTS": str(tests),
        "BENCHMARK_CLASSES": str(tests),
        "BENCHMARK_DATABASE": as_variable(server.django()),
    }
    subprocess.run(
        [ours.python, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
        cwd=folder, env=ours.variables(folder, **variables), check=True,
    )  # fmt: skip
    many = {"BENCHMARK_SETTINGS": as_variable({"SMOKETEST_WORKERS": TESTS})}
    wanted = {
        US: (ours, "request", many),
        US_DEFAULT: (ours, "request", {}),
        BASELINE: (ours, "alone", {}),
        "one thread per test, without a framework": (ours, "threads", {}),
        "Django's TestCase": (ours, "django-testcase", {}),
        **{
            peer.name: (environments[peer.name], "request", {})
            for peer in PEERS
            if peer.name in environments
        },
    }
    for suite, how in SUITES.items():
        with ExitStack() as inner:
            workers = {
                name: inner.enter_context(
                    Worker(
                        environment, folder / f"{suite}-{number}", contender,
                        BENCHMARK_SUITE=suite, **variables, **settings,
                    )
                )
                for number, (name, (environment, contender, settings)) in enumerate(wanted.items())
            }  # fmt: skip
            rounds = in_turns(
                {name: worker.measure for name, worker in workers.items()}, options.rounds
            )
        title = f"{tests} tests of 100 ms in {tests} classes, {how}"
        findings.add(f"{title}:", comparison(rounds, us=US, baseline=BASELINE))
        longest = Aim(
            f"{title}: django-smoketest / {BASELINE}", ratio(rounds[US], rounds[BASELINE]), 1.5
        )
        findings.aims.append(longest)
        if before := rounds.get(VERSION_1.name):
            times = ratio(before, rounds[US])
            findings.aims.append(
                Aim(f"{title}: {VERSION_1.name} / django-smoketest", times, 8, at_least=True)
            )
    return findings


if __name__ == "__main__":
    run("waiting", __doc__, main)
