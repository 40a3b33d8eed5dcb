"""Tests of `smoketest.metrics`."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from typing import Any

import django
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

import smoketest
from smoketest.metrics import (
    OPEN_METRICS,
    TEXT,
    Context,
    Encoding,
    SmokeTestCollector,
    expose,
)
from smoketest.results import Outcome, Result, RunResult, Severity
from smoketest.store import KnownTest, Snapshot
from tests.builders import (
    NOW,
    PROPERTY,
    make_collection_error,
    make_declaration,
    make_known_test,
    make_result,
    make_run_summary,
    make_snapshot,
    snapshots,
    texts,
)

TEST = {"django_app", "test", "severity", "maintainer"}

#: The name, type and labels of each metric family.
FAMILIES = {
    "smoketest_tests": ("gauge", set()),
    "smoketest_collection_errors": ("gauge", set()),
    "smoketest_last_run_tests": ("gauge", {"outcome"}),
    "smoketest_last_run_success": ("gauge", set()),
    "smoketest_last_run_timestamp_seconds": ("gauge", set()),
    "smoketest_last_run_duration_seconds": ("gauge", set()),
    "smoketest_last_success_timestamp_seconds": ("gauge", set()),
    "smoketest_run_interval_seconds": ("gauge", set()),
    "smoketest_runs_total": ("counter", {"result"}),
    "smoketest_test_success": ("gauge", TEST),
    "smoketest_test_outcome": ("gauge", {*TEST, "outcome"}),
    "smoketest_test_consecutive_failures": ("gauge", TEST),
    "smoketest_test_last_run_duration_seconds": ("gauge", TEST),
    "smoketest_test_last_run_timestamp_seconds": ("gauge", TEST),
    "smoketest_test_last_success_timestamp_seconds": ("gauge", TEST),
    "smoketest_test_slow_threshold_seconds": ("gauge", TEST),
    "smoketest_test_timeout_seconds": ("gauge", TEST),
    "smoketest_test_max_age_seconds": ("gauge", TEST),
    "smoketest_test_runs_total": ("counter", {"test", "outcome"}),
    "smoketest_test_info": ("gauge", {"test", "url", "runbook_url"}),
    "smoketest_abandoned_tests": ("gauge", set()),
    "smoketest_paused": ("gauge", set()),
    "smoketest_results_store_up": ("gauge", set()),
    "smoketest_build_info": (
        "gauge",
        {"version", "django_version", "python_version", "release"},
    ),
}

OUTCOMES = {"passed", "failed", "errored", "timed_out", "skipped", "not_run"}

Samples = list[tuple[dict[str, str], float]]


def exposed(
    snapshot: Snapshot | None = None, *, interval: float | None = 60.0, **context: Any
) -> dict[str, Samples]:
    """Return the samples of the text exposition by name."""
    samples: dict[str, Samples] = {}
    for family in text_string_to_metric_families(exposition(snapshot, interval, **context)):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def exposition(
    snapshot: Snapshot | None = None, interval: float | None = 60.0, **context: Any
) -> str:
    return expose(make_collector(snapshot, interval, **context), TEXT).decode()


def make_collector(
    snapshot: Snapshot | None = None, interval: float | None = 60.0, **context: Any
) -> SmokeTestCollector:
    current = Context(interval=interval, **context)
    return SmokeTestCollector(lambda: snapshot or make_snapshot(), lambda: current)


def complete_snapshot() -> Snapshot:
    """Return a snapshot for which every family has samples."""
    return make_snapshot(
        make_known_test(last_success_at=NOW),
        last_full_run=make_run_summary(),
        last_success_at=NOW,
    )


def value(samples: dict[str, Samples], name: str) -> float:
    """Return the value of the only sample with this name."""
    ((_, number),) = samples[name]
    return number


def by_label(label: str, samples: Samples) -> dict[str, float]:
    return {labels[label]: number for labels, number in samples}


# Metric families


def test_families__table() -> None:
    """Exactly these families are exposed, with their types and labels."""
    text = exposition(complete_snapshot())
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    samples = exposed(complete_snapshot())
    labels = {name: {frozenset(of) for of, _ in samples[name]} for name in samples}
    assert types == {name: kind for name, (kind, _) in FAMILIES.items()}
    assert set(helps) == set(FAMILIES)
    assert labels == {name: {frozenset(of)} for name, (_, of) in FAMILIES.items()}


def test_families__open_metrics() -> None:
    """OpenMetrics has the same samples as the text format."""
    families = parse_open_metrics(expose(make_collector(complete_snapshot()), OPEN_METRICS))
    samples = [sample for family in families for sample in family.samples]
    text = exposed(complete_snapshot())
    assert {sample.name for sample in samples} == set(FAMILIES)
    assert len(samples) == sum(map(len, text.values()))


@pytest.mark.parametrize("encoding", [TEXT, OPEN_METRICS])
def test_project__is_a_label_of_every_series(encoding: Encoding) -> None:
    """With SMOKETEST_PROJECT, all series have the label and are otherwise the same."""

    def series(project: str) -> list[tuple[str, dict[str, str], float]]:
        text = expose(make_collector(complete_snapshot(), project=project), encoding)
        parse = parse_text if encoding is TEXT else parse_open_metrics
        samples = [sample for family in parse(text) for sample in family.samples]
        return [(sample.name, sample.labels, sample.value) for sample in samples]

    expected = [
        (name, {"django_project": "shop", **labels}, value) for name, labels, value in series("")
    ]
    assert series("shop") == expected
    assert len(expected) > len(FAMILIES)


@pytest.mark.parametrize("encoding", [TEXT, OPEN_METRICS])
def test_families__no_created_series(encoding: smoketest.metrics.Encoding) -> None:
    """Counters have no `_created` series, which would double their number."""
    assert b"_created" not in expose(make_collector(complete_snapshot()), encoding)


def test_encoding__content_type() -> None:
    """Prometheus rejects unknown content types."""
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert OPEN_METRICS.content_type == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )


def test_describe__does_not_collect() -> None:
    """Registering the collector does not read results."""

    def refuse() -> Snapshot:
        pytest.fail("results were read at registration")

    collector = SmokeTestCollector(refuse, lambda: Context(interval=None))
    CollectorRegistry(auto_describe=True).register(collector)
    assert list(collector.describe()) == []


def test_collect__current_values() -> None:
    """Each scrape returns current values."""
    timestamps = iter([NOW, NOW + 60])
    collector = SmokeTestCollector(
        lambda: make_snapshot(last_success_at=next(timestamps)), lambda: Context(interval=None)
    )
    name = "smoketest_last_success_timestamp_seconds"
    for timestamp in (NOW, NOW + 60):
        (family,) = (family for family in collector.collect() if family.name == name)
        assert family.samples[0].value == timestamp


# Runs


def test_run__last_full_run() -> None:
    """The latest full run has a sample for every outcome, including those with 0 tests."""
    run = make_run_summary(
        started_at=NOW,
        duration=0.5,
        passed=False,
        collection_errors=2,
        outcomes={Outcome.PASSED: 3, Outcome.ERRORED: 4, Outcome.SKIPPED: 1},
    )
    samples = exposed(make_snapshot(last_full_run=run))
    assert value(samples, "smoketest_tests") == 6
    assert value(samples, "smoketest_collection_errors") == 2
    assert value(samples, "smoketest_last_run_success") == 0
    assert value(samples, "smoketest_last_run_timestamp_seconds") == NOW + 0.5
    assert value(samples, "smoketest_last_run_duration_seconds") == 0.5
    assert by_label("outcome", samples["smoketest_last_run_tests"]) == {
        "passed": 3,
        "failed": 0,
        "errored": 4,
        "timed_out": 0,
        "skipped": 1,
        "not_run": 0,
    }


def test_run__passed() -> None:
    samples = exposed(make_snapshot(last_full_run=make_run_summary()))
    assert value(samples, "smoketest_last_run_success") == 1


def test_run__never() -> None:
    """Before the first run, no metrics of runs and tests are exposed."""
    assert set(exposed(make_snapshot())) == {
        "smoketest_run_interval_seconds",
        "smoketest_runs_total",
        "smoketest_abandoned_tests",
        "smoketest_paused",
        "smoketest_results_store_up",
        "smoketest_build_info",
    }


def test_run__never_succeeded() -> None:
    """Before the first success, its timestamp is not exposed."""
    run = make_run_summary(passed=False)
    name = "smoketest_last_success_timestamp_seconds"
    assert name not in exposed(make_snapshot(last_full_run=run))
    samples = exposed(make_snapshot(last_full_run=run, last_success_at=NOW - 60))
    assert value(samples, name) == NOW - 60


def test_run__interval() -> None:
    """The interval is exposed, and a result is stale after three intervals."""
    samples = exposed(complete_snapshot(), interval=30.0)
    assert value(samples, "smoketest_run_interval_seconds") == 30
    assert value(samples, "smoketest_test_max_age_seconds") == 90


def test_run__no_interval() -> None:
    """Without an interval, results are never stale."""
    samples = exposed(complete_snapshot(), interval=None)
    assert "smoketest_run_interval_seconds" not in samples
    assert "smoketest_test_max_age_seconds" not in samples


def test_run__totals() -> None:
    """Every result has a counter, including those with 0 runs."""
    samples = exposed(make_snapshot(run_totals={RunResult.FAILED: 7}))
    assert by_label("result", samples["smoketest_runs_total"]) == {
        "passed": 0,
        "failed": 7,
        "aborted": 0,
    }


def test_totals__not_shared() -> None:
    """Totals that are not shared by all processes are not exposed."""
    samples = exposed(
        make_snapshot(make_known_test(), is_shared=False, run_totals={RunResult.PASSED: 1})
    )
    assert "smoketest_runs_total" not in samples
    assert "smoketest_test_runs_total" not in samples
    assert "smoketest_test_success" in samples


# Tests


def test_test__labels() -> None:
    """Each test has labels for its app, id, severity and maintainer."""
    declaration = make_declaration(severity=Severity.WARNING, maintainer="payments")
    samples = exposed(make_snapshot(make_known_test(make_result(declaration=declaration))))
    labels = {
        "django_app": "polls",
        "test": "polls.smoke.PollsTest.test_vote",
        "severity": "warning",
        "maintainer": "payments",
    }
    assert samples["smoketest_test_success"] == [(labels, 1)]
    assert ({**labels, "outcome": "passed"}, 1) in samples["smoketest_test_outcome"]


@pytest.mark.parametrize(
    ("outcome", "success"),
    [
        (Outcome.PASSED, 1),
        (Outcome.FAILED, 0),
        (Outcome.ERRORED, 0),
        (Outcome.TIMED_OUT, 0),
        (Outcome.SKIPPED, None),
        (Outcome.NOT_RUN, None),
    ],
)
def test_test__outcome(outcome: Outcome, success: float | None) -> None:
    """One outcome is 1 and the others are 0; a skipped test has no success."""
    samples = exposed(make_snapshot(make_known_test(make_result(outcome))))
    outcomes = by_label("outcome", samples["smoketest_test_outcome"])
    assert outcomes == {**dict.fromkeys(OUTCOMES, 0), outcome.value: 1}
    assert [number for _, number in samples.get("smoketest_test_success", [])] == (
        [] if success is None else [success]
    )


def test_test__gauges() -> None:
    """The state and options of a test are exposed, with times in seconds."""
    declaration = make_declaration(timeout=7.5, slow_after=2.5, every=3600.0)
    result = make_result(Outcome.FAILED, declaration, started_at=NOW, duration=0.25)
    known_test = make_known_test(result, consecutive_failures=3, last_success_at=NOW - 60)
    samples = exposed(make_snapshot(known_test))
    assert value(samples, "smoketest_test_consecutive_failures") == 3
    assert value(samples, "smoketest_test_last_run_duration_seconds") == 0.25
    assert value(samples, "smoketest_test_last_run_timestamp_seconds") == NOW + 0.25
    assert value(samples, "smoketest_test_last_success_timestamp_seconds") == NOW - 60
    assert value(samples, "smoketest_test_slow_threshold_seconds") == 2.5
    assert value(samples, "smoketest_test_timeout_seconds") == 7.5
    assert value(samples, "smoketest_test_max_age_seconds") == 3 * 3600


def test_test__never_succeeded() -> None:
    """Before the first success, its timestamp is not exposed."""
    samples = exposed(make_snapshot(make_known_test(last_success_at=None)))
    assert "smoketest_test_last_success_timestamp_seconds" not in samples


def test_test__collection_error() -> None:
    """A collection error has the series of a failed test without declared options."""
    samples = exposed(make_snapshot(make_known_test(make_collection_error("blog.smoke"))))
    assert by_label("test", samples["smoketest_test_success"]) == {"blog.smoke": 0}
    assert "smoketest_test_slow_threshold_seconds" not in samples
    assert "smoketest_test_timeout_seconds" not in samples
    assert value(samples, "smoketest_test_max_age_seconds") == 180


def test_test__totals() -> None:
    """Every outcome has a counter, including those with 0 runs."""
    known_test = make_known_test(totals={Outcome.PASSED: 5, Outcome.TIMED_OUT: 1})
    totals = exposed(make_snapshot(known_test))["smoketest_test_runs_total"]
    assert by_label("outcome", totals) == {
        **dict.fromkeys(OUTCOMES, 0),
        "passed": 5,
        "timed_out": 1,
    }
    assert {labels["test"] for labels, _ in totals} == {known_test.result.id}


def test_test__several_tests() -> None:
    other = make_result(Outcome.FAILED, make_declaration("blog.smoke.BlogTest.test_post"))
    samples = exposed(make_snapshot(make_known_test(), make_known_test(other)))
    assert by_label("test", samples["smoketest_test_success"]) == {
        "polls.smoke.PollsTest.test_vote": 1,
        "blog.smoke.BlogTest.test_post": 0,
    }
    assert len(samples["smoketest_test_outcome"]) == 2 * len(OUTCOMES)


def info(result: Result, **context: Any) -> dict[str, str]:
    """Return the labels of ``smoketest_test_info`` for the result."""
    samples = exposed(make_snapshot(make_known_test(result)), **context)
    ((labels, number),) = samples["smoketest_test_info"]
    assert number == 1
    return labels


def test_info__links() -> None:
    """The labels are the URLs of the test's page and its runbook."""
    declaration = make_declaration("polls.smoke.Å.test_a", runbook_url="https://wiki.example/a")
    assert info(make_result(declaration=declaration), page_url="https://example.com/smoke/") == {
        "test": "polls.smoke.Å.test_a",
        "url": "https://example.com/smoke/test/polls.smoke.%C3%85.test_a/",
        "runbook_url": "https://wiki.example/a",
    }


def test_info__no_page_url() -> None:
    """Without a public URL, the `url` label is empty."""
    assert info(make_result())["url"] == ""


def test_info__long_links_are_complete() -> None:
    """A truncated link would be dead, so links are exported in full length."""
    runbook_url = f"https://wiki.example/{'r' * 3000}"
    declaration = make_declaration("t" * 300, runbook_url=runbook_url)
    labels = info(make_result(declaration=declaration), page_url="https://example.com/")
    assert labels == {
        "test": "t" * 300,
        "url": f"https://example.com/test/{'t' * 300}/",
        "runbook_url": runbook_url,
    }


# The process


def test_process__build_info() -> None:
    """Versions and the release are labels."""
    samples = exposed(release="v42")
    assert samples["smoketest_build_info"] == [
        (
            {
                "version": smoketest.__version__,
                "django_version": django.get_version(),
                "python_version": platform.python_version(),
                "release": "v42",
            },
            1,
        )
    ]


def test_process__state() -> None:
    """Abandoned tests are counted, and pauses are exposed."""
    samples = exposed(abandoned_tests=2, is_paused=True)
    assert value(samples, "smoketest_abandoned_tests") == 2
    assert value(samples, "smoketest_paused") == 1
    assert value(exposed(), "smoketest_abandoned_tests") == 0
    assert value(exposed(), "smoketest_paused") == 0


@pytest.mark.parametrize("is_up", [True, False])
def test_process__results_store_up(is_up: bool) -> None:
    samples = exposed(make_snapshot(is_up=is_up))
    assert value(samples, "smoketest_results_store_up") == is_up


# Text in labels


def parse_text(body: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(body.decode()))


def parse_open_metrics(body: bytes) -> list[Metric]:
    families = openmetrics_parser.text_string_to_metric_families(  # type: ignore[no-untyped-call]
        body.decode()
    )
    return list(families)


def label_values(families: Iterable[Metric], name: str, label: str) -> set[str]:
    return {
        sample.labels[label]
        for family in families
        for sample in family.samples
        if sample.name == name
    }


@PROPERTY
@given(snapshots(), st.none() | st.floats(1, 1e6), texts())
def test_expose__any_snapshot(snapshot: Snapshot, interval: float | None, release: str) -> None:
    """Any snapshot is parsed by both parsers and has no duplicate series."""
    collector = make_collector(snapshot, interval, release=release)
    for families in (
        parse_text(expose(collector, TEXT)),
        parse_open_metrics(expose(collector, OPEN_METRICS)),
    ):
        series = [
            (sample.name, frozenset(sample.labels.items()))
            for family in families
            for sample in family.samples
        ]
        assert len(series) == len(set(series))
        expected = {test.result.id for test in snapshot.tests}
        assert label_values(families, "smoketest_test_outcome", "test") == expected


def make_failing_test(test_id: str, maintainer: str, runbook_url: str, message: str) -> KnownTest:
    declaration = make_declaration(test_id, maintainer=maintainer, runbook_url=runbook_url)
    return make_known_test(make_result(Outcome.FAILED, declaration, message=message))


def assert_round_trip(test_id: str, maintainer: str, runbook_url: str, message: str) -> None:
    """Assert that both parsers return the labels unchanged, except for lone surrogates."""
    snapshot = make_snapshot(make_failing_test(test_id, maintainer, runbook_url, message))
    collector = make_collector(snapshot, page_url="https://example.com/")
    for families in (
        parse_text(expose(collector, TEXT)),
        parse_open_metrics(expose(collector, OPEN_METRICS)),
    ):
        for name in ("smoketest_test_success", "smoketest_test_info", "smoketest_test_runs_total"):
            assert label_values(families, name, "test") == {encodable(test_id)}
        found = label_values(families, "smoketest_test_success", "maintainer")
        assert found == {encodable(maintainer)}
        found = label_values(families, "smoketest_test_info", "runbook_url")
        assert found == {encodable(runbook_url)}


def encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@PROPERTY
@given(texts(), texts(), texts(), texts())
@example('"', "\n", "\\", "\0")
@example("\\n", '\\"', "\\\\", "\\")
@example('a"} 1\nsmoketest_up 1', " # {} 1", "{", "}")
@example("😀", "\r\n", "\u2028\x85", "\ufeff")
def test_expose__any_text(test_id: str, maintainer: str, runbook_url: str, message: str) -> None:
    """Any text in a label is parsed unchanged."""
    assert_round_trip(test_id, maintainer, runbook_url, message)


@settings(PROPERTY, max_examples=20)
@given(st.text(st.characters(categories=["Cs", "Lu"]), max_size=5))
@example("\ud800")
@example("\udc80")
def test_expose__lone_surrogates(text: str) -> None:
    """A lone surrogate is replaced; the exposition remains valid."""
    assert_round_trip(f"polls.smoke.{text}", text, text, text)


def test_expose__release_with_invalid_bytes() -> None:
    """A release from an environment variable that is not UTF-8 is exposed with replacements."""
    release = b"v42-\xff".decode("utf-8", "surrogateescape")
    ((labels, _),) = exposed(release=release)["smoketest_build_info"]
    assert labels["release"] == "v42-?"


def test_expose__page_url_with_invalid_bytes() -> None:
    """A URL with a lone surrogate is exposed with a replacement."""
    assert info(make_result(), page_url="https://\udcff/")["url"].startswith("https://?/test/")


def test_expose__megabyte_label() -> None:
    """A label of a megabyte is escaped completely."""
    text = 'a"\\\n😀{,}' * 125_000
    body = expose(
        make_collector(make_snapshot(make_failing_test("t", text, "", text))), TEXT
    ).decode()
    escaped = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    labels = f'django_app="polls",maintainer="{escaped}",severity="critical",test="t"'
    assert f"\nsmoketest_test_success{{{labels}}} 0.0\n" in body
    assert text not in body  # the parsers are too slow to check this
