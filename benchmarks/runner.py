"""What running a test costs: 1,000 tests that do nothing, and 1,000 with one INSERT each.

On SQLite (a file, WAL) and PostgreSQL. The floor is BEGIN, the same INSERT and ROLLBACK, by hand
on one Django connection that stays open; where the tests do nothing, unittest's own TestCase.
"By a request" is all that a request does: find the tests, run them, record what came of them,
render the metrics, answer. "The runner alone" does what the floor and Django's TestCase do.
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
FLOOR = "baseline"
DJANGO = "Django's TestCase"
INSERTS = {"insert_by_cursor": "a cursor", "insert_by_model": "`Model.objects.create`"}


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """All suites, one after the other."""
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
        FLOOR: (ours, "unittest" if suite == "trivial" else "hand", {}),
        DJANGO: (ours, "django-testcase", {}),
    }
    for peer in (VERSION_1, HEALTH_CHECK, WATCHMAN):
        # Those but the first roll nothing back.
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
            # All in one folder: they share the SQLite database.
            name: stack.enter_context(
                Worker(environment, folder, contender, **variables, **settings)
            )
            for name, (environment, contender, settings) in wanted.items()
        }
        rounds = in_turns({name: worker.ask for name, worker in workers.items()}, options.rounds)
    findings.add(f"{title}:", comparison(rounds, us=US_ALONE, floor=FLOOR))
    if suite == "trivial":
        return
    alone = rounds[US_ALONE]
    findings.aims.append(Aim(f"{title}: {US_ALONE} / {FLOOR}", ratio(alone, rounds[FLOOR]), 1.6))
    if database:
        findings.aims.append(
            Aim(f"{title}: {US_ALONE} / {DJANGO}", ratio(alone, rounds[DJANGO]), 0.8)
        )


if __name__ == "__main__":
    run("runner", __doc__, main)
