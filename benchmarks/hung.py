"""A check that hangs, with a timeout of one second: duration of the response, and lost workers.

The site has 2 sync workers of gunicorn, which kills a worker that is busy for 5 s (30 s by
default). "Workers lost" counts workers that no longer exist 7 s after the request. "Shutdown" is
the time that the site takes to stop afterwards; gunicorn kills remaining workers after 5 s. The
baseline is a check that passes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from typing import NamedTuple

from harness import OURS, PEERS, VERSION_1, WATCHMAN, Aim, Environment, Findings, run, table
from serving import Site

from tests.servers.client import get

TIMEOUT = 1
#: Seconds after the request until the workers are counted.
COUNT_AFTER = 7.0
US = "django-smoketest"
BASELINE = "baseline: a check that passes"


class Hung(NamedTuple):
    """Result of one request; times are in seconds."""

    answer: str
    seconds: float
    lost: int
    stop: float


def visit(site: Site, count_after: float) -> Hung:
    """Request the checks, count the lost workers after `count_after` seconds, and stop the site."""
    workers = site.worker_ids()
    began = time.monotonic()
    answer = "none: the connection was closed"
    with suppress(OSError, HTTPException):
        answer = str(get(site.port, "/checks/", timeout=30).status)
    seconds = time.monotonic() - began
    time.sleep(max(0.0, count_after - seconds))
    lost = site.lost(workers)
    stopping = time.monotonic()
    site.stop()
    return Hung(answer, seconds, lost, time.monotonic() - stopping)


def sites(environments: dict[str, Environment]) -> dict[str, Site]:
    """Return a new site for each contender, since a hanging test would affect a second request."""

    def site(environment: Environment, suite: str = "hang") -> Site:
        return Site(
            environment, suite, "--timeout=5", "--graceful-timeout=5", workers=2,
            SMOKETEST_TIMEOUT=TIMEOUT, BENCHMARK_TIMEOUT=TIMEOUT,
        )  # fmt: skip

    return {
        US: site(environments[OURS.name]),
        BASELINE: site(environments[OURS.name], "trivial"),
        **{p.name: site(environments[p.name]) for p in PEERS if p.name in environments},
    }


def main(options: argparse.Namespace, _: ExitStack) -> Findings:
    """Measure all contenders in parallel, since most of them only wait."""
    findings = Findings()
    found: dict[str, list[Hung]] = {}
    count_after = 2 * TIMEOUT if options.without_peers else COUNT_AFTER
    for _round in range(options.rounds):
        with ExitStack() as inner:
            running = sites(options.environments)
            for site in running.values():
                inner.enter_context(site)
            with ThreadPoolExecutor(len(running)) as pool:
                visits = {
                    name: pool.submit(visit, site, count_after) for name, site in running.items()
                }
            for name, done in visits.items():
                found.setdefault(name, []).append(done.result())
    us = statistics.median(hung.seconds for hung in found[US])
    rows = []
    for name, measurements in found.items():
        seconds = statistics.median(hung.seconds for hung in measurements)
        no_timeout = name in {VERSION_1.name, WATCHMAN.name}
        rows.append(
            (
                f"{name} (no timeout)" if no_timeout else name,
                f"{seconds:.2f}",
                _range([hung.seconds for hung in measurements]),
                f"{us / seconds:.2f}",
                ", ".join(sorted({hung.answer for hung in measurements})),
                f"{sum(hung.lost for hung in measurements)} in {len(measurements)}",
                f"{statistics.median(hung.stop for hung in measurements):.1f}",
            )
        )
    head = ("", "median, s", "range", "ratio", "status", "workers lost", "shutdown, s")
    findings.add("A request with a check that hangs:", table(head, rows))
    findings.aims += [
        Aim(
            "slowest response, after the timeout",
            max(hung.seconds for hung in found[US]) - TIMEOUT,
            0.5,
            " s",
        ),
        Aim("workers lost", sum(h.lost for h in found[US]), 0),
    ]
    return findings


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    run("hung", __doc__, main)
