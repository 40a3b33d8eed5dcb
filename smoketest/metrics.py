"""The metrics: one collector over a snapshot of the results store, and its exposition.

There are no instrument objects: those would be wrong under several workers, keep the series of
removed tests, and lose totals at a restart. See
https://prometheus.github.io/client_python/collector/custom/ and the naming rules of
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

import django
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from smoketest import __version__
from smoketest.results import Outcome, RunResult
from smoketest.runner.failures import encodable
from smoketest.store import KnownTest, RunSummary, Snapshot

#: Labels of the families that tell of one test.
TEST_LABELS = ("django_app", "test", "severity", "maintainer")
INFO_VALUE_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the metrics say besides results; times are in seconds."""

    #: How often full runs are expected, or None.
    interval: float | None
    #: Address of the page for people; empty if it is not known.
    page_url: str = ""
    release: str = ""
    abandoned_tests: int = 0
    is_paused: bool = False


class SmokeTestCollector(Collector):
    """Yields the families of the package from what the two functions return at that moment."""

    def __init__(self, snapshot: Callable[[], Snapshot], context: Callable[[], Context]) -> None:
        self._snapshot = snapshot
        self._context = context

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would otherwise collect when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshot, context = self._snapshot(), self._context()
        yield from result_families(snapshot, context)
        yield from live_families(context, is_up=snapshot.is_up)


#: A family with one sample a test: its name, its help and the value, or None for no sample.
_GaugeOfTests = tuple[str, str, Callable[[KnownTest], float | None]]


def result_families(snapshot: Snapshot, context: Context) -> Iterator[Metric]:
    """The families that change with each run, and only then."""
    if snapshot.last_full_run is not None:
        yield from _last_run(snapshot.last_full_run)
    if snapshot.last_success_at is not None:
        yield GaugeMetricFamily(
            "smoketest_last_success_timestamp_seconds",
            "When a full run last succeeded, as a Unix time.",
            value=snapshot.last_success_at,
        )
    yield from _test_families(snapshot.tests, context)
    if snapshot.is_shared:
        yield from _totals(snapshot)


def live_families(context: Context, *, is_up: bool) -> Iterator[Metric]:
    """The few families that do not wait for a run."""
    if context.interval is not None:
        yield GaugeMetricFamily(
            "smoketest_run_interval_seconds",
            "Interval at which full runs are expected.",
            value=context.interval,
        )
    yield GaugeMetricFamily(
        "smoketest_abandoned_tests",
        "Timed-out tests whose thread still lives, on this host.",
        value=context.abandoned_tests,
    )
    yield GaugeMetricFamily(
        "smoketest_paused",
        "1 while an operator has paused the runs.",
        value=context.is_paused,
    )
    yield GaugeMetricFamily(
        "smoketest_results_store_up",
        "Whether the stored results could be read.",
        value=is_up,
    )
    build = GaugeMetricFamily(
        "smoketest_build_info",
        "Versions that this process runs; always 1.",
        labels=["version", "django_version", "python_version", "release"],
    )
    versions = [__version__, django.get_version(), platform.python_version(), context.release]
    build.add_metric([encodable(version) for version in versions], 1)
    yield build


def _last_run(run: RunSummary) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "smoketest_tests",
        "Tests discovered by the most recent full run.",
        value=sum(run.outcomes.values()) - run.collection_errors,
    )
    yield GaugeMetricFamily(
        "smoketest_collection_errors",
        "Smoke modules that the most recent full run could not import.",
        value=run.collection_errors,
    )
    by_outcome = GaugeMetricFamily(
        "smoketest_last_run_tests",
        "Tests of the most recent full run, by outcome.",
        labels=["outcome"],
    )
    for outcome in Outcome:
        by_outcome.add_metric([outcome], run.outcomes.get(outcome, 0))
    yield by_outcome
    yield GaugeMetricFamily(
        "smoketest_last_run_success",
        "1 if no critical test of the most recent full run failed.",
        value=run.passed,
    )
    yield GaugeMetricFamily(
        "smoketest_last_run_timestamp_seconds",
        "When the most recent full run completed, as a Unix time.",
        value=run.finished_at,
    )
    yield GaugeMetricFamily(
        "smoketest_last_run_duration_seconds",
        "How long the most recent full run took.",
        value=run.duration,
    )


def _test_families(tests: Iterable[KnownTest], context: Context) -> Iterator[Metric]:
    tests = tuple(tests)
    for name, documentation, value in (*_TEST_GAUGES, _max_age_gauge(context.interval)):
        family = GaugeMetricFamily(name, documentation, labels=TEST_LABELS)
        for test in tests:
            if (number := value(test)) is not None:
                family.add_metric(_test_labels(test), number)
        yield family
    outcomes = GaugeMetricFamily(
        "smoketest_test_outcome",
        "What came of the test when it last ran: 1 for that outcome, 0 for the others.",
        labels=[*TEST_LABELS, "outcome"],
    )
    information = GaugeMetricFamily(
        "smoketest_test_info",
        "Where to read about the test; always 1.",
        labels=["test", "url", "runbook_url"],
    )
    for test in tests:
        for outcome in Outcome:
            is_it = test.result.outcome is outcome
            outcomes.add_metric([*_test_labels(test), outcome], is_it)
        url = (
            f"{context.page_url}test/{quote(test.result.id, safe='', errors='replace')}/"
            if context.page_url
            else ""
        )
        runbook_url = test.result.declaration.runbook_url
        shortened = [encodable(text)[:INFO_VALUE_LIMIT] for text in (url, runbook_url)]
        information.add_metric([encodable(test.result.id), *shortened], 1)
    yield outcomes
    yield information


def _test_labels(test: KnownTest) -> list[str]:
    declared = test.result.declaration
    labels = (declared.app, declared.id, declared.severity, declared.maintainer)
    return [encodable(label) for label in labels]


def _success(test: KnownTest) -> float | None:
    return test.result.outcome is Outcome.PASSED if test.result.outcome.is_conclusive else None


def _declared(attribute: str) -> Callable[[KnownTest], float | None]:
    """What the test declares; a module that could not be imported declares nothing."""

    def value(test: KnownTest) -> float | None:
        declared = test.result.declaration
        seconds: float = getattr(declared, attribute)
        return None if declared.is_collection_error else seconds

    return value


def _max_age_gauge(interval: float | None) -> _GaugeOfTests:
    def value(test: KnownTest) -> float | None:
        every = test.result.declaration.every
        return None if interval is None else 3 * max(every, interval)

    return (
        "smoketest_test_max_age_seconds",
        "Age from which on the test's latest result counts as stale.",
        value,
    )


_TEST_GAUGES: tuple[_GaugeOfTests, ...] = (
    (
        "smoketest_test_success",
        "1 if the test passed when it last ran, 0 if not; absent while it is skipped.",
        _success,
    ),
    (
        "smoketest_test_consecutive_failures",
        "Runs in a row that the test did not pass, skips left out.",
        lambda test: test.consecutive_failures,
    ),
    (
        "smoketest_test_last_run_duration_seconds",
        "How long the test took when it last ran.",
        lambda test: test.result.duration,
    ),
    (
        "smoketest_test_last_run_timestamp_seconds",
        "When the test last ran, as a Unix time.",
        lambda test: test.result.finished_at,
    ),
    (
        "smoketest_test_last_success_timestamp_seconds",
        "When the test last passed, as a Unix time; absent until it has.",
        lambda test: test.last_success_at,
    ),
    (
        "smoketest_test_slow_threshold_seconds",
        "Duration from which on the test counts as slow.",
        _declared("slow_after"),
    ),
    (
        "smoketest_test_timeout_seconds",
        "Duration after which the test is given up.",
        _declared("timeout"),
    ),
)


def _totals(snapshot: Snapshot) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "smoketest_runs", "Runs without a filter, by their result.", labels=["result"]
    )
    for result in RunResult:
        runs.add_metric([result], snapshot.run_totals.get(result, 0))
    yield runs
    test_runs = CounterMetricFamily(
        "smoketest_test_runs", "Runs of the test, by outcome.", labels=["test", "outcome"]
    )
    for test in snapshot.tests:
        for outcome in Outcome:
            test_runs.add_metric([encodable(test.result.id), outcome], test.totals.get(outcome, 0))
    yield test_runs


class Encoding(NamedTuple):
    """An exposition format, and the media type that announces it."""

    name: str
    content_type: str
    encode: Callable[[Collector], bytes]
    #: What ends an exposition.
    end: bytes


#: Text format 0.0.4, which every Prometheus reads.
TEXT = Encoding("text", "text/plain; version=0.0.4; charset=utf-8", exposition.generate_latest, b"")
#: https://prometheus.io/docs/specs/om/open_metrics_spec/
OPEN_METRICS = Encoding(
    "openmetrics",
    openmetrics_exposition.CONTENT_TYPE_LATEST,
    openmetrics_exposition.generate_latest,
    b"# EOF\n",
)
ENCODINGS = (TEXT, OPEN_METRICS)


class _Families(Collector):
    """Families that are known already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def encode(families: Iterable[Metric], encoding: Encoding) -> bytes:
    """The families, without what ends an exposition: others may follow."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return encoding.encode(registry).removesuffix(encoding.end)


def expose(collector: Collector, encoding: Encoding) -> bytes:
    """A whole exposition."""
    return encode(collector.collect(), encoding) + encoding.end
