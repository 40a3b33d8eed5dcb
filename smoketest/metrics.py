"""The metrics: a custom collector that reads the results store, and the exposition formats.

Direct instrumentation would give each worker process its own values, keep the series of removed
tests, and reset counters at a restart. See
https://prometheus.github.io/client_python/collector/custom/ and, for the names,
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

#: Label of all metrics if ``SMOKETEST_PROJECT`` is set.
PROJECT_LABEL = "django_project"
#: Labels of the metrics of a single test.
TEST_LABELS = ("django_app", "test", "severity", "maintainer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Values of the metrics that do not come from results."""

    #: Expected seconds between full runs; None if no runs are expected.
    interval: float | None
    #: URL of the HTML page; empty if it is unknown.
    page_url: str = ""
    release: str = ""
    #: Name of the site; empty if its metrics do not have the label ``django_project``.
    project: str = ""
    abandoned_tests: int = 0
    is_paused: bool = False


class SmokeTestCollector(Collector):
    """Collector for a prometheus_client registry, which reads the results store at each scrape.

    With ``SMOKETEST_DJANGO_PROMETHEUS``, it is registered with django-prometheus. `snapshot` and
    `context` are called at each scrape.
    """

    def __init__(self, snapshot: Callable[[], Snapshot], context: Callable[[], Context]) -> None:
        self._snapshot = snapshot
        self._context = context

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that the registry does not collect when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshot, context = self._snapshot(), self._context()
        yield from result_families(snapshot, context)
        yield from live_families(context, is_up=snapshot.is_up)


#: Name, help and value of a gauge with one sample per test; a value of None omits the sample.
_GaugeOfTests = tuple[str, str, Callable[[KnownTest], float | None]]


def result_families(snapshot: Snapshot, context: Context) -> Iterator[Metric]:
    """Yield the families that only change when results are recorded."""
    return _labeled(_result_families(snapshot, context), context.project)


def live_families(context: Context, *, is_up: bool) -> Iterator[Metric]:
    """Yield the families that can change at any time."""
    return _labeled(_live_families(context, is_up=is_up), context.project)


def _labeled(families: Iterable[Metric], project: str) -> Iterator[Metric]:
    """Add the label of the site to all samples, if the site has a name."""
    for family in families:
        if project:
            family.samples = [
                sample._replace(labels={PROJECT_LABEL: project, **sample.labels})
                for sample in family.samples
            ]
        yield family


def _result_families(snapshot: Snapshot, context: Context) -> Iterator[Metric]:
    if snapshot.last_full_run is not None:
        yield from _last_run(snapshot.last_full_run)
    if snapshot.last_success_at is not None:
        yield GaugeMetricFamily(
            "smoketest_last_success_timestamp_seconds",
            "Unix time of the end of the last full run in which no critical test failed.",
            value=snapshot.last_success_at,
        )
    yield from _test_families(snapshot.tests, context)
    if snapshot.is_shared:
        yield from _totals(snapshot)


def _live_families(context: Context, *, is_up: bool) -> Iterator[Metric]:
    if context.interval is not None:
        yield GaugeMetricFamily(
            "smoketest_run_interval_seconds",
            "Expected interval between full runs; the SMOKETEST_INTERVAL setting.",
            value=context.interval,
        )
    yield GaugeMetricFamily(
        "smoketest_abandoned_tests",
        "Number of timed-out tests on this host whose threads are still running.",
        value=context.abandoned_tests,
    )
    yield GaugeMetricFamily(
        "smoketest_paused",
        "1 while runs are paused, 0 otherwise.",
        value=context.is_paused,
    )
    yield GaugeMetricFamily(
        "smoketest_results_store_up",
        "1 if the results store can be read and written, 0 if not.",
        value=is_up,
    )
    build = GaugeMetricFamily(
        "smoketest_build_info",
        "Versions of the package, Django, Python and the site; always 1.",
        labels=["version", "django_version", "python_version", "release"],
    )
    versions = [__version__, django.get_version(), platform.python_version(), context.release]
    build.add_metric([encodable(version) for version in versions], 1)
    yield build


def _last_run(run: RunSummary) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "smoketest_tests",
        "Number of tests discovered by the last full run.",
        value=sum(run.outcomes.values()) - run.collection_errors,
    )
    yield GaugeMetricFamily(
        "smoketest_collection_errors",
        "Number of smoke modules that the last full run could not import.",
        value=run.collection_errors,
    )
    by_outcome = GaugeMetricFamily(
        "smoketest_last_run_tests",
        "Number of tests in the last full run, by outcome.",
        labels=["outcome"],
    )
    for outcome in Outcome:
        by_outcome.add_metric([outcome], run.outcomes.get(outcome, 0))
    yield by_outcome
    yield GaugeMetricFamily(
        "smoketest_last_run_success",
        "1 if no critical test failed in the last full run, 0 otherwise.",
        value=run.passed,
    )
    yield GaugeMetricFamily(
        "smoketest_last_run_timestamp_seconds",
        "Unix time of the end of the last full run.",
        value=run.finished_at,
    )
    yield GaugeMetricFamily(
        "smoketest_last_run_duration_seconds",
        "Duration of the last full run.",
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
        "Outcome of the last run of the test: 1 for that outcome, 0 for the others.",
        labels=[*TEST_LABELS, "outcome"],
    )
    information = GaugeMetricFamily(
        "smoketest_test_info",
        "Links to the page of the test and to its runbook; always 1.",
        labels=["test", "url", "runbook_url"],
    )
    for test in tests:
        for outcome in Outcome:
            is_outcome = test.result.outcome is outcome
            outcomes.add_metric([*_test_labels(test), outcome], is_outcome)
        url = (
            f"{context.page_url}test/{quote(test.result.id, safe='', errors='replace')}/"
            if context.page_url
            else ""
        )
        links = (test.result.id, url, test.result.declaration.runbook_url)
        information.add_metric([encodable(text) for text in links], 1)
    yield outcomes
    yield information


def _test_labels(test: KnownTest) -> list[str]:
    declaration = test.result.declaration
    labels = (declaration.app, declaration.id, declaration.severity, declaration.maintainer)
    return [encodable(label) for label in labels]


def _success(test: KnownTest) -> float | None:
    return test.result.outcome is Outcome.PASSED if test.result.outcome.is_conclusive else None


def _declared(attribute: str) -> Callable[[KnownTest], float | None]:
    """Return a function that returns an attribute of the test, or None for a collection error."""

    def value(test: KnownTest) -> float | None:
        declaration = test.result.declaration
        seconds: float = getattr(declaration, attribute)
        return None if declaration.is_collection_error else seconds

    return value


def _max_age_gauge(interval: float | None) -> _GaugeOfTests:
    def value(test: KnownTest) -> float | None:
        every = test.result.declaration.every
        return None if interval is None else 3 * max(every, interval)

    return (
        "smoketest_test_max_age_seconds",
        "Age after which the latest result of the test is stale.",
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
        "Number of consecutive runs in which the test failed; skipped runs are ignored.",
        lambda test: test.consecutive_failures,
    ),
    (
        "smoketest_test_last_run_duration_seconds",
        "Duration of the last run of the test.",
        lambda test: test.result.duration,
    ),
    (
        "smoketest_test_last_run_timestamp_seconds",
        "Unix time of the end of the last run of the test.",
        lambda test: test.result.finished_at,
    ),
    (
        "smoketest_test_last_success_timestamp_seconds",
        "Unix time at which the test last passed; absent until it has passed.",
        lambda test: test.last_success_at,
    ),
    (
        "smoketest_test_slow_threshold_seconds",
        "Slow threshold of the test.",
        _declared("slow_after"),
    ),
    (
        "smoketest_test_timeout_seconds",
        "Timeout of the test.",
        _declared("timeout"),
    ),
)


def _totals(snapshot: Snapshot) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "smoketest_runs", "Number of full runs, by result.", labels=["result"]
    )
    for result in RunResult:
        runs.add_metric([result], snapshot.run_totals.get(result, 0))
    yield runs
    test_runs = CounterMetricFamily(
        "smoketest_test_runs", "Number of runs of the test, by outcome.", labels=["test", "outcome"]
    )
    for test in snapshot.tests:
        for outcome in Outcome:
            test_runs.add_metric([encodable(test.result.id), outcome], test.totals.get(outcome, 0))
    yield test_runs


class Encoding(NamedTuple):
    """An exposition format."""

    name: str
    content_type: str
    encode: Callable[[Collector], bytes]
    #: Last line of an exposition; empty if the format has none.
    end: bytes


#: Text format 0.0.4, which all versions of Prometheus support.
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
    """Collector of a fixed list of families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def encode(families: Iterable[Metric], encoding: Encoding) -> bytes:
    """Encode families without the last line of an exposition, so that others can follow."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return encoding.encode(registry).removesuffix(encoding.end)


def expose(collector: Collector, encoding: Encoding) -> bytes:
    """Encode a complete exposition."""
    return encode(collector.collect(), encoding) + encoding.end
