"""A crowd: 200 simultaneous clients request the checks of a site with 4 workers.

The suite takes 200 ms. The benchmark reports how often it runs, how long the clients wait, how many
of them receive an error, and the duration of another page, which is requested every 20 ms
regardless of earlier responses. The baseline is the same crowd requesting that other page.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Signal
from typing import NamedTuple

from harness import (
    OURS,
    PEERS,
    Aim,
    Environment,
    Findings,
    quantile,
    run,
    table,
)
from serving import Site

from tests.servers.client import get

#: Duration of the suite in `bench_site.suites`, in seconds.
SUITE = 0.2
PROBE_EVERY = 0.02
TIMEOUT = 60.0
#: Seconds for which only the other page is requested, before the crowd.
IDLE = 0.5
BASELINE = "baseline: requests for the other page"
US = "django-smoketest"
US_COLD = "django-smoketest, nothing stored"


class Answer(NamedTuple):
    """Response to one client."""

    #: 0 without a response.
    status: int
    seconds: float


@dataclass(frozen=True)
class Round:
    """Results of one crowd."""

    answers: list[Answer]
    pages: list[Answer]
    idle_pages: list[Answer]
    runs: int
    at_once: int

    def errors(self) -> int:
        """Return the number of missing and unsuccessful responses."""
        return sum(answer.status != 200 for answer in (*self.answers, *self.pages))

    def waited(self, percent: int) -> float:
        """Return a percentile of the response times, in milliseconds."""
        return quantile([answer.seconds for answer in self.answers], percent) * 1000

    def page(self, percent: int) -> float:
        """Return a percentile for the other page during the crowd, in milliseconds."""
        return quantile([answer.seconds for answer in self.pages], percent) * 1000

    def idle_page(self) -> float:
        """Return the median for the other page before the crowd, in milliseconds."""
        return statistics.median(answer.seconds for answer in self.idle_pages) * 1000


async def _request(port: int, path: str) -> Answer:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    started = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request.encode())
            answer = await reader.read(-1)
            writer.close()
        status = int(answer.split(maxsplit=2)[1])
    except (OSError, TimeoutError, IndexError):
        status = 0
    return Answer(status, time.perf_counter() - started)


async def _crowd(port: int, path: str, clients: int) -> list[Answer]:
    return await asyncio.gather(*(_request(port, path) for _ in range(clients)))


def probe(port: int, seconds: float) -> list[Answer]:
    """Request the other page at intervals, for `seconds` or until `_over` is set."""

    async def probes() -> list[Answer]:
        tasks = []
        until = time.monotonic() + seconds
        while time.monotonic() < until and not _over.is_set():
            tasks.append(asyncio.ensure_future(_request(port, "/page")))
            await asyncio.sleep(PROBE_EVERY)
        return await asyncio.gather(*tasks)

    return asyncio.run(probes())


_over: Signal


def _store_event(over: Signal) -> None:
    """Store the event in the process that probes."""
    global _over  # noqa: PLW0603 - an Event can only be passed at process start
    _over = over


def overlaps(notes: str) -> tuple[int, int]:
    """Return the number of runs, and the maximum number of concurrent runs, from their notes."""
    times = sorted((float(at), word) for at, word in map(str.split, notes.splitlines()))
    running = most = 0
    for _, word in times:
        running += 1 if word == "begin" else -1
        most = max(most, running)
    return sum(word == "begin" for _, word in times), most


class Contender:
    """A site, the path that the crowd requests, and preparation before each round."""

    def __init__(
        self,
        environment: Environment,
        stack: ExitStack,
        path: str,
        before: Callable[[Site], object] = lambda _: None,
        **settings: object,
    ) -> None:
        self.site = stack.enter_context(Site(environment, "crowd", workers=4, **settings))
        self.path = path
        self._before = before
        for _ in range(16):  # warm up every worker
            get(self.site.port, path)

    def round(self, clients: int, prober: ProcessPoolExecutor, over: Signal) -> Round:
        """Measure one crowd."""
        self._before(self.site)
        port = self.site.port
        over.clear()
        idle = prober.submit(probe, port, IDLE).result()
        self.site.runs_file.write_text("")
        future = prober.submit(probe, port, TIMEOUT)
        time.sleep(2 * PROBE_EVERY)
        answers = asyncio.run(_crowd(port, self.path, clients))
        over.set()
        runs, at_once = overlaps(self.site.runs_file.read_text())
        return Round(answers, future.result(), idle, runs, at_once)


def _age(site: Site) -> None:
    """Let the stored report become stale, so that a run is needed."""
    get(site.port, "/checks/")
    time.sleep(1.2)


def _clear(site: Site) -> None:
    """Restart the site, since reports from before the restart are not served."""
    site.restart()
    for _ in range(16):
        get(site.port, "/page")


def main(options: argparse.Namespace, stack: ExitStack) -> Findings:
    """Measure the sites alternately."""
    findings = Findings()
    clients = 20 if options.quick else 200
    environments = options.environments
    ours = environments[OURS.name]
    contenders = {
        US: Contender(ours, stack, "/checks/", _age, SMOKETEST_MAX_AGE=1),
        US_COLD: Contender(ours, stack, "/checks/", _clear),
        BASELINE: Contender(ours, stack, "/page"),
        **{
            peer.name: Contender(environments[peer.name], stack, "/checks/")
            for peer in PEERS
            if peer.name in environments
        },
    }
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    prober = stack.enter_context(
        ProcessPoolExecutor(1, mp_context=context, initializer=_store_event, initargs=(over,))
    )
    rounds: dict[str, list[Round]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            rounds[name].append(contender.round(clients, prober, over))
    _report(findings, rounds, clients)
    return findings


def _report(findings: Findings, rounds: dict[str, list[Round]], clients: int) -> None:
    def median(name: str, value: Callable[[Round], float]) -> float:
        return statistics.median(value(round_) for round_ in rounds[name])

    us_p99 = median(US, lambda r: r.waited(99))
    rows = []
    for name, crowds in rounds.items():
        p99 = median(name, lambda r: r.waited(99))
        rows.append(
            (
                name,
                f"{median(name, lambda r: r.runs):g}",
                max(r.at_once for r in crowds),
                f"{median(name, lambda r: r.waited(50)):,.0f}",
                f"{p99:,.0f}",
                f"{us_p99 / p99:.2f}",
                sum(r.errors() for r in crowds),
                f"{median(name, Round.idle_page):.1f}",
                f"{median(name, lambda r: r.page(50)):,.1f}",
                f"{median(name, lambda r: r.page(99)):,.1f}",
            )
        )
    head = (
        "", "runs", "max. concurrent runs", "p50, ms", "p99, ms", "ratio of p99",
        "errors, all rounds", "other page before, ms", "other page p50, ms", "other page p99, ms",
    )  # fmt: skip
    findings.add(f"{clients} simultaneous clients:", table(head, rows))
    findings.aims += [
        Aim("errors", sum(r.errors() for r in rounds[US]), 0),
        Aim("concurrent runs", max(r.at_once for r in rounds[US]), 1),
        Aim("p99 / duration of the suite, 200 ms", us_p99 / 1000 / SUITE, 2),
        Aim("other page, p50 / before", median(US, lambda r: r.page(50) / r.idle_page()), 2),
        Aim(
            "other page, p50 / the same in the baseline",
            median(US, lambda r: r.page(50)) / median(BASELINE, lambda r: r.page(50)),
            2,
        ),
    ]


if __name__ == "__main__":
    run("crowd", __doc__, main)
