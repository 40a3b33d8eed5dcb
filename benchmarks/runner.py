"""Overhead of running a test: 1,000 trivial tests, and 1,000 tests with one INSERT each.

The tests use SQLite (a file in WAL mode) and PostgreSQL. The baseline executes BEGIN, the same
INSERT and ROLLBACK on one open Django connection; for trivial tests, it is unittest's TestCase. A
request discovers the tests, runs them, stores the results, renders the metrics and returns a
response. "Runner only" does the same work as the baseline and Django's TestCase.
"""

from __future__ import annotations

import argparse
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import (
    HEALTH_CHECK,
    OURS,
    VERSION_1,
    WATCHMAN,
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

US = "django-smoketest, request"
US_ALONE = "django-smoketest, runner only"
US_ONE = "django-smoketest, runner only, SMOKETEST_WORKERS = 1"
BASELINE = "baseline"
DJANGO = "Django's TestCase"
INSERTS = {"insert_by_cursor": "a cursor", "insert_by_model": "`Model.objects.create`"}


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure all suites in sequence."""
    need("postgres", "initdb", "psql")
    findings = Findings()
    tests = 20 if options.quick else 1000
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smoketest-bench-")))
    server = stack.enter_context(PostgreSQL())
    databases = {"SQLite": "", "PostgreSQL": as_variable(server.django())}
    title = f"{tests:,} trivial tests"
    _measure(options, findings, folder / "trivial", title, "trivial", "", tests)
    for name, database in databases.items():
        for suite, how in list(INSERTS.items())[: 1 if options.quick else None]:
            _measure(
                options,
                findings,
                folder / f"{name}-{suite}",
                f"{tests:,} tests with an INSERT by {how}, on {name}",
                suite,
                database,
                tests,
            )
    return findings


def _measure(
    options: argparse.Namespace,
    findings: Findings,
    folder: Path,
    title: str,
    suite: str,
    database: str,
    tests: int,
) -> None:
    environments = options.environments
    ours = environments[OURS.name]
    variables = {
        "BENCHMARK_SUITE": suite,
        "BENCHMARK_TESTS": str(tests),
        "BENCHMARK_CLASSES": "20",
        "BENCHMARK_DATABASE": database,
    }
    one_worker = {"BENCHMARK_SETTINGS": as_variable({"SMOKETEST_WORKERS": 1})}
    wanted = {
        US: (ours, "request", {}),
        US_ALONE: (ours, "runner", {}),
        US_ONE: (ours, "runner", one_worker),
        BASELINE: (ours, "unittest" if suite == "trivial" else "hand", {}),
        DJANGO: (ours, "django-testcase", {}),
    }
    for peer in (VERSION_1, HEALTH_CHECK, WATCHMAN):
        # Only 1.x rolls back, so the others are not comparable for suites that write.
        if peer.name in environments and (suite == "trivial" or peer is VERSION_1):
            wanted[peer.name] = (environments[peer.name], "request", {})
    folder.mkdir()
    if suite != "trivial":
        subprocess.run(
            [ours.python, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
            cwd=folder, env=ours.variables(folder, **variables), check=True,
        )  # fmt: skip
    with ExitStack() as stack:
        workers = {
            # The same directory for all, so that they share the SQLite database.
            name: stack.enter_context(
                Worker(environment, folder, contender, **variables, **settings)
            )
            for name, (environment, contender, settings) in wanted.items()
        }
        rounds = in_turns(
            {name: worker.measure for name, worker in workers.items()}, options.rounds
        )
    findings.add(f"{title}:", comparison(rounds, us=US_ALONE, baseline=BASELINE))
    if suite == "trivial":
        return
    alone = rounds[US_ALONE]
    findings.aims.append(
        Aim(f"{title}: {US_ALONE} / {BASELINE}", ratio(alone, rounds[BASELINE]), 1.6)
    )
    if database:
        findings.aims.append(
            Aim(f"{title}: {US_ALONE} / {DJANGO}", ratio(alone, rounds[DJANGO]), 0.8)
        )


if __name__ == "__main__":
    run("runner", __doc__, main)
