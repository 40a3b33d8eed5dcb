"""Simulated sites with a fault, and the alerts that each of them should send.

A replica runs no tests: its results are given, recorded in a results store, and exported by the
collector of the package. Times are in minutes since the fault, of `MINUTE` seconds each.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from smoketest.metrics import TEXT, Context, SmokeTestCollector, expose
from smoketest.results import Outcome, Result, Selection, Severity
from smoketest.store.memory import MemoryStore
from tests.builders import make_collection_error, make_declaration, make_report, make_result
from tests.servers.pages import Page, serve

#: Seconds for each minute of the rules and of the configuration.
MINUTE = 5.0
#: Minutes for which the sites are healthy before the fault.
HEALTHY = 6.0
#: Minutes until a fault is repaired. A test must be slow for more than ten minutes.
REPAIRED = 15.0

#: Names of the test that fails, and of one that passes.
VICTIM, OTHER = "orders.smoke.OrderTest.test_order", "orders.smoke.OrderTest.test_stock"
#: `smoketest_results_store_up` in scrapes every 15 seconds of a site with four workers, after the
#: disk with its state directory was full.
FLICKER = "000010101000000000000100001001010000000100000000"

#: Function of a time in minutes since the fault.
When = Callable[[float], bool]


def always(_: float) -> bool:
    """Return True."""
    return True


def never(_: float) -> bool:
    """Return False."""
    return False


def broken(minute: float) -> bool:
    """Return whether the fault exists."""
    return 0 <= minute < REPAIRED


def not_broken(minute: float) -> bool:
    """Return whether the fault does not exist."""
    return not broken(minute)


def before(end: float) -> When:
    """Return a function that is true until that minute."""
    return lambda minute: minute < end


def except_every(number: int) -> When:
    """Return a function that is false for one of so many scrapes, at two scrapes a minute."""
    return lambda minute: int(2 * (minute + HEALTHY)) % number != 0


def flickering(minute: float) -> bool:
    """Return the state of the results store that the workers alternately report."""
    return not_broken(minute) or FLICKER[int(4 * minute) % len(FLICKER)] == "1"


class Store(MemoryStore):
    """A store that exports totals, as if it were shared by processes."""

    is_shared = True


@dataclass(kw_only=True)
class Replica:
    """A simulated process of a site, and the labels of its target."""

    instance: str = "web-1"
    #: Further labels of the target.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: `SMOKETEST_PROJECT` of the site.
    project: str = ""
    severity: Severity = Severity.CRITICAL
    maintainer: str = ""
    #: Outcome and duration in seconds of the test `VICTIM` while it is `failing`.
    outcome: Outcome = Outcome.FAILED
    duration: float = 0.25
    failing: When = never
    #: Whether the code of the site has the test, and whether a module cannot be imported.
    has_victim: When = always
    has_import_error: When = never
    #: Whether runs start, and whether they are full runs or run only the test `OTHER`.
    runs: When = always
    is_full: When = always
    #: Whether the target exists, and whether a scrape succeeds.
    exists: When = always
    answers: When = always
    store_is_up: When = always
    is_paused: When = never
    #: Number of abandoned tests during the fault.
    abandoned: int = 0
    #: Minutes between runs, and between scrapes.
    interval: float = 1.0
    scrape_interval: float = 0.5
    #: Minutes by which the clock of the host is ahead.
    clock: float = 0.0
    #: Time at which the results store is lost.
    store_lost_at: float = float("inf")

    def __post_init__(self) -> None:
        self._store = Store()
        self._next_run = -HEALTHY
        self._lock = threading.Lock()

    def collector(self, minute: float, fault_at: float) -> SmokeTestCollector:
        """Return the metrics after the runs until that time."""
        with self._lock:
            while self._next_run <= minute:
                if self._next_run >= self.store_lost_at:
                    self._store, self.store_lost_at = Store(), float("inf")
                if self.runs(self._next_run):
                    self._record(self._next_run, fault_at)
                self._next_run += self.interval

            found = replace(self._store.snapshot(), is_up=self.store_is_up(minute))
            context = Context(
                interval=self.interval * MINUTE,
                page_url="https://shop.example.com/smoketest/",
                release="1",
                project=self.project,
                abandoned_tests=self.abandoned if broken(minute) else 0,
                is_paused=self.is_paused(minute),
            )
            return SmokeTestCollector(lambda: found, lambda: context)

    def _record(self, minute: float, fault_at: float) -> None:
        started_at = fault_at + (minute + self.clock) * MINUTE
        is_full = self.is_full(minute)

        def result(test: str, outcome: Outcome, duration: float) -> Result:
            declaration = make_declaration(
                test, app="orders", severity=self.severity, maintainer=self.maintainer
            )
            return make_result(outcome, declaration, started_at=started_at, duration=duration)

        results = [result(OTHER, Outcome.PASSED, 0.25)]
        if is_full and self.has_victim(minute):
            fails = self.failing(minute)
            results.append(
                result(
                    VICTIM,
                    self.outcome if fails else Outcome.PASSED,
                    self.duration if fails else 0.25,
                )
            )
        if is_full and self.has_import_error(minute):
            results.append(make_collection_error(started_at=started_at))
        selection = Selection() if is_full else Selection(names=(OTHER,))
        self._store.record(make_report(*results, selection=selection, started_at=started_at))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A site with a fault."""

    title: str
    #: Name of the job.
    job: str
    replicas: Sequence[Replica] = ()
    #: Labels of each expected alert. An alert may have more labels.
    alerts: Sequence[Mapping[str, str]] = ()
    #: Number of notifications that report a firing alert.
    notifications: int = 0
    #: Whether a notification reports the end of the alerts.
    is_resolved: bool = True
    #: Part of the description of the alerts.
    description: str = ""


def alert(name: str, severity: str = "critical", **labels: str) -> dict[str, str]:
    """Return labels of an alert."""
    return {"alertname": f"SmokeTest{name}", "severity": severity, **labels}


def simulated() -> list[Scenario]:
    """Return the scenarios of simulated sites."""
    one_failing = [alert("Failing", test=VICTIM)]
    return [
        # Tests
        Scenario(
            title="A critical test fails",
            job="critical",
            replicas=[Replica(failing=broken)],
            alerts=one_failing,
            notifications=1,
        ),
        Scenario(
            title="A warning test fails",
            job="warning",
            replicas=[Replica(failing=broken, severity=Severity.WARNING)],
            alerts=[alert("Failing", "warning", test=VICTIM)],
            notifications=1,
        ),
        Scenario(
            title="A test fails in a single run",
            job="once",
            replicas=[Replica(failing=lambda minute: 0 <= minute < 1)],
        ),
        Scenario(
            title="A test fails in every other run",
            job="flapping",
            replicas=[Replica(failing=lambda minute: broken(minute) and minute % 2 < 1)],
            alerts=[alert("Flapping", test=VICTIM)],
            notifications=1,
            is_resolved=False,  # for an hour
        ),
        Scenario(
            title="A test is slow",
            job="slow",
            replicas=[Replica(failing=broken, outcome=Outcome.PASSED, duration=3.0)],
            alerts=[alert("Slow", "warning", test=VICTIM)],
            notifications=1,
        ),
        Scenario(
            title="A test times out, and its thread is still running",
            job="timeout",
            replicas=[
                Replica(failing=broken, outcome=Outcome.TIMED_OUT, duration=10.0, abandoned=1)
            ],
            alerts=one_failing,
            notifications=1,
        ),
        Scenario(
            title="Four abandoned tests, of which one is a warning",
            job="abandoned",
            replicas=[
                Replica(
                    failing=broken,
                    outcome=Outcome.TIMED_OUT,
                    duration=10.0,
                    severity=Severity.WARNING,
                    abandoned=4,
                )
            ],
            alerts=[alert("Failing", "warning", test=VICTIM), alert("Abandoned", "warning")],
            notifications=2,
        ),
        Scenario(
            title="A smoke module cannot be imported",
            job="import",
            replicas=[Replica(has_import_error=broken)],
            alerts=[alert("ImportError", test="blog.smoke")],
            notifications=1,
        ),
        Scenario(
            title="A test does not run, although others do",
            job="stale",
            replicas=[Replica(is_full=not_broken)],
            alerts=[alert("Stale", test=VICTIM)],
            notifications=1,
        ),
        Scenario(
            title="A test is always skipped",
            job="skipped",
            replicas=[Replica(failing=always, outcome=Outcome.SKIPPED, duration=0.0)],
        ),
        Scenario(
            title="A test fails, and is removed in the next release",
            job="removed",
            replicas=[
                Replica(failing=lambda minute: minute >= 0, has_victim=before(1)),
            ],
        ),
        # Runs
        Scenario(
            title="No run has ever completed",
            job="never-ran",
            replicas=[Replica(runs=lambda minute: minute >= REPAIRED)],
            alerts=[alert("NeverRan")],
            notifications=1,
        ),
        Scenario(
            title="Runs have stopped",
            job="stopped",
            replicas=[Replica(runs=not_broken)],
            alerts=[alert("RunsStopped")],
            notifications=1,
        ),
        Scenario(
            title="Runs are paused for maintenance",
            job="paused",
            replicas=[Replica(runs=not_broken, is_paused=broken)],
        ),
        Scenario(
            title="The results store is unavailable",
            job="store",
            replicas=[Replica(runs=not_broken, store_is_up=not_broken)],
            alerts=[alert("StoreDown")],
            notifications=1,
        ),
        Scenario(
            title="The results store is on a full disk, and four workers notice it in turns",
            job="full-disk",
            replicas=[Replica(runs=not_broken, store_is_up=flickering)],
            alerts=[alert("StoreDown")],
            notifications=1,
        ),
        Scenario(
            title="The results store is lost at a deployment while a test fails",
            job="lost-store",
            replicas=[Replica(failing=broken, store_lost_at=2)],
            alerts=one_failing,
            notifications=1,
            description="It last passed at",
        ),
        # Scrapes
        Scenario(
            title="Every fifth scrape fails",
            job="gaps",
            replicas=[Replica(answers=except_every(5))],
        ),
        Scenario(
            title="Every fifth scrape fails while a test fails",
            job="gaps-of-5",
            replicas=[Replica(failing=broken, answers=except_every(5))],
            alerts=one_failing,
            notifications=1,
        ),
        Scenario(
            title="Every seventh scrape fails while a test fails",
            job="gaps-of-7",
            replicas=[Replica(failing=broken, answers=except_every(7))],
            alerts=one_failing,
            notifications=1,
        ),
        Scenario(
            title="Prometheus is restarted while a test fails",
            job="restart",
            replicas=[Replica(failing=lambda minute: minute >= 0)],
            alerts=one_failing,
            notifications=1,
            is_resolved=False,
        ),
        Scenario(
            title="Scrapes every two minutes of a site that runs its tests every 30 seconds",
            job="rare-scrapes",
            replicas=[Replica(interval=0.5, scrape_interval=2.0)],
        ),
        Scenario(
            title="The clock of a host is 10 minutes slow",
            job="slow-clock",
            replicas=[Replica(clock=-10)],
        ),
        Scenario(
            title="The clock of a host is 10 minutes ahead",
            job="fast-clock",
            replicas=[Replica(clock=10)],
        ),
        Scenario(
            title="The target is gone",
            job="gone",
            replicas=[Replica(answers=not_broken)],
            alerts=[alert("TargetGone")],
            notifications=1,
        ),
        Scenario(
            title="One of three replicas is gone",
            job="one-gone",
            replicas=[
                Replica(instance="web-1", answers=not_broken),
                Replica(instance="web-2"),
                Replica(instance="web-3"),
            ],
            alerts=[alert("TargetGone", "warning")],
            notifications=1,
        ),
        Scenario(
            title="The token is wrong from the start",
            job="wrong-token",
            replicas=[Replica(answers=never)],
            alerts=[alert("NeverScraped", "warning", instance="web-1")],
            notifications=1,
            is_resolved=False,
        ),
        Scenario(
            title="A pod is removed after a test has failed on it",
            job="pod-gone",
            replicas=[
                Replica(
                    instance="10.0.0.1:80", failing=lambda minute: minute >= 0, exists=before(0.5)
                ),
                Replica(instance="10.0.0.2:80"),
            ],
        ),
        # Sites and environments
        Scenario(
            title="A test fails on three replicas with labels of Kubernetes",
            job="replicas",
            replicas=[
                Replica(
                    instance=f"10.0.0.{number}:80",
                    labels={
                        "namespace": "web",
                        "pod": f"web-{number}",
                        "container": "django",
                        "endpoint": "http",
                        "node": f"node-{number}",
                    },
                    failing=broken,
                )
                for number in (1, 2, 3)
            ],
            alerts=[alert("Failing", namespace="web")],
            notifications=1,
        ),
        Scenario(
            title="A test fails in two environments",
            job="environments",
            replicas=[
                Replica(labels={"environment": "prod"}, failing=broken),
                Replica(labels={"environment": "staging"}, failing=broken),
            ],
            alerts=[
                alert("Failing", environment="prod"),
                alert("Failing", environment="staging"),
            ],
            notifications=2,
        ),
        Scenario(
            title="Of two sites in one job, one is gone and a test of the other one fails",
            job="two-sites",
            replicas=[
                Replica(instance="blog-1", project="blog", answers=not_broken),
                Replica(instance="shop-1", project="shop", failing=broken),
            ],
            alerts=[
                alert("TargetGone", django_project="blog"),
                alert("Failing", django_project="shop"),
            ],
            notifications=2,
        ),
        Scenario(
            title="A test fails on old pods without SMOKETEST_PROJECT and on new pods with it",
            job="upgrade",
            replicas=[
                Replica(instance="old", failing=broken),
                Replica(instance="new", project="shop", failing=broken),
            ],
            alerts=[alert("Failing", django_project="shop")],
            notifications=1,
        ),
        Scenario(
            title="A test fails on two releases that declare different severities",
            job="relabeled",
            replicas=[
                Replica(instance="old", severity=Severity.WARNING, failing=broken),
                Replica(instance="new", maintainer="sales", failing=broken),
            ],
            alerts=[alert("Failing", maintainer="sales")],
            notifications=1,
        ),
    ]


@contextmanager
def served(scenarios: Sequence[Scenario], fault_at: float) -> Iterator[int]:
    """Serve the targets as `/targets`, and the page of each replica, and yield the port."""
    targets = [(scenario.job, replica) for scenario in scenarios for replica in scenario.replicas]

    def page_of(path: str, port: int) -> Page:
        minute = (time.time() - fault_at) / MINUTE
        if path == "/targets":
            groups = [
                _target(f"127.0.0.1:{port}", f"/{number}", job, replica)
                for number, (job, replica) in enumerate(targets)
                if replica.exists(minute)
            ]
            return Page("application/json", json.dumps(groups).encode())
        _, replica = targets[int(path.removeprefix("/"))]
        if not replica.answers(minute):
            return Page("text/plain", b"", status=401)
        return Page(TEXT.content_type, expose(replica.collector(minute, fault_at), TEXT))

    with serve(page_of) as port:
        yield port


def _target(host: str, path: str, job: str, replica: Replica) -> dict[str, object]:
    """Return a target group for service discovery over HTTP."""
    return {
        "targets": [host],
        "labels": {
            "job": job,
            "instance": replica.instance,
            "__metrics_path__": path,
            "__scrape_interval__": f"{replica.scrape_interval * MINUTE * 1000:.0f}ms",
            **replica.labels,
        },
    }
