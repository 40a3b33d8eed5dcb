"""Tests of `smoketest.results`."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import example, given

from smoketest.results import (
    Declaration,
    Outcome,
    Report,
    Result,
    RunResult,
    Selection,
    Severity,
    StopReason,
)
from tests.builders import (
    NOW,
    PROPERTY,
    make_collection_error,
    make_declaration,
    make_report,
    make_result,
    reports,
)

WARNING = make_declaration("polls.smoke.PollsTest.test_warning", severity=Severity.WARNING)


def test_values__are_stable() -> None:
    """Stores, JSON and metric labels contain these values, so they must not change."""
    outcomes = ["passed", "failed", "errored", "timed_out", "skipped", "not_run"]
    assert [str(outcome) for outcome in Outcome] == outcomes
    assert [str(severity) for severity in Severity] == ["critical", "warning"]
    assert [str(stop_reason) for stop_reason in StopReason] == [
        "",
        "failfast",
        "deadline",
        "interrupt",
    ]
    assert [str(result) for result in RunResult] == ["passed", "failed", "aborted"]


def test_defaults() -> None:
    """By default, a test is critical, may use all databases and has no metadata."""
    declaration = Declaration(id="a.smoke.A.test_a", app="a", timeout=10.0, slow_after=1.0)
    result = Result(declaration=declaration, outcome=Outcome.PASSED, started_at=NOW)
    report = Report(selection=Selection(), results=(result,), started_at=NOW, duration=0.5)
    assert report.to_dict() == {
        "selection": {"names": (), "tags": (), "excluded_tags": ()},
        "results": (
            {
                "declaration": {
                    "id": "a.smoke.A.test_a",
                    "app": "a",
                    "severity": "critical",
                    "timeout": 10.0,
                    "slow_after": 1.0,
                    "every": 0.0,
                    "maintainer": "",
                    "runbook_url": "",
                    "description": "",
                    "tags": (),
                    "databases": "__all__",
                    "read_only": False,
                    "is_collection_error": False,
                },
                "outcome": "passed",
                "message": "",
                "public_message": "",
                "exception": "",
                "traceback": "",
                "started_at": NOW,
                "duration": 0.0,
                "carried": False,
            },
        ),
        "started_at": NOW,
        "duration": 0.5,
        "cut": "",
        "release": "",
    }


@pytest.mark.parametrize(
    ("outcome", "is_problem", "is_conclusive"),
    [
        (Outcome.PASSED, False, True),
        (Outcome.FAILED, True, True),
        (Outcome.ERRORED, True, True),
        (Outcome.TIMED_OUT, True, True),
        (Outcome.SKIPPED, False, False),
        (Outcome.NOT_RUN, False, False),
    ],
)
def test_outcome__kinds(outcome: Outcome, is_problem: bool, is_conclusive: bool) -> None:
    """Only outcomes of tests that ran are conclusive."""
    assert outcome.is_problem is is_problem
    assert outcome.is_conclusive is is_conclusive
    assert make_result(outcome).is_problem is is_problem


def test_result__ids() -> None:
    """A result has the id of its test and of its class."""
    result = make_result()
    assert result.id == "polls.smoke.PollsTest.test_vote"
    assert result.class_id == "polls.smoke.PollsTest"


def test_result__finished_at() -> None:
    """The end is the start plus the duration."""
    assert make_result(started_at=10.0, duration=2.5).finished_at == 12.5


def test_result__carried_over() -> None:
    """A carried-over result is marked and otherwise unchanged."""
    result = make_result(Outcome.FAILED, message="no")
    carried = result.as_carried_over()
    assert carried.carried
    assert not result.carried
    assert dataclasses.replace(carried, carried=False) == result


def test_result__is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_result().outcome = Outcome.FAILED  # type: ignore[misc]


def test_declaration__is_selected_by() -> None:
    """A test is selected by name and tags."""
    declaration = make_declaration(tags=("db",))
    assert declaration.is_selected_by(Selection(names=("polls",), tags=("db",)))
    assert not declaration.is_selected_by(Selection(tags=("cache",)))


def test_declaration__collection_error() -> None:
    """A collection error is part of every selection."""
    broken = make_collection_error("blog.smoke").declaration
    assert broken.is_selected_by(Selection(names=("polls",), tags=("db",), excluded_tags=("x",)))


@pytest.mark.parametrize(
    ("results", "passed"),
    [
        ((), True),
        ((make_result(),), True),
        ((make_result(Outcome.SKIPPED),), True),
        ((make_result(Outcome.FAILED),), False),
        ((make_result(Outcome.ERRORED),), False),
        ((make_result(Outcome.TIMED_OUT),), False),
        ((make_result(Outcome.NOT_RUN),), False),
        ((make_result(Outcome.FAILED, WARNING),), True),
        ((make_result(Outcome.TIMED_OUT, WARNING),), True),
        ((make_result(Outcome.NOT_RUN, WARNING),), True),
        ((make_result(Outcome.FAILED, WARNING), make_result(Outcome.ERRORED)), False),
        ((make_collection_error(),), False),
    ],
)
def test_report__status(results: tuple[Result, ...], passed: bool) -> None:
    """Critical tests that did not pass or run fail the report; warnings do not."""
    report = make_report(*results)
    assert report.passed is passed
    assert report.status == ("PASS" if passed else "FAIL")
    assert report.result is (RunResult.PASSED if passed else RunResult.FAILED)


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.FAILED])
@pytest.mark.parametrize("stop_reason", [StopReason.FAIL_FAST, StopReason.DEADLINE])
def test_report__aborted(stop_reason: StopReason, outcome: Outcome) -> None:
    """A stopped run counts as aborted, whatever the outcomes of its tests."""
    assert make_report(make_result(outcome), stop_reason=stop_reason).result is RunResult.ABORTED


@pytest.mark.parametrize(
    ("report", "is_full"),
    [
        (make_report(), True),
        (make_report(stop_reason=StopReason.DEADLINE), False),
        (make_report(stop_reason=StopReason.FAIL_FAST), False),
        (make_report(selection=Selection(tags=("db",))), False),
    ],
)
def test_report__is_full(report: Report, is_full: bool) -> None:
    """Only an unfiltered run that completed is full."""
    assert report.is_full is is_full


def test_report__finished_at() -> None:
    """The end is the start plus the duration."""
    assert make_report(duration=2.5).finished_at == NOW + 2.5


def test_report__problems() -> None:
    """Problems are the tests that ran and did not pass, including warnings."""
    passed, skipped = make_result(), make_result(Outcome.SKIPPED)
    failed, timed_out = make_result(Outcome.FAILED), make_result(Outcome.TIMED_OUT, WARNING)
    report = make_report(passed, failed, skipped, timed_out)
    assert report.problems == (failed, timed_out)
    assert report.warnings == (timed_out,)


def test_report__with_outcome() -> None:
    """Results can be filtered by several outcomes and keep their order."""
    errored, passed = make_result(Outcome.ERRORED), make_result()
    timed_out = make_result(Outcome.TIMED_OUT)
    report = make_report(timed_out, passed, errored)
    assert report.with_outcome(Outcome.ERRORED, Outcome.TIMED_OUT) == (timed_out, errored)
    assert report.count(Outcome.ERRORED, Outcome.TIMED_OUT) == 2
    assert report.count(Outcome.SKIPPED) == 0


def test_narrowed_to__selection() -> None:
    """A report of a full run is reduced to a selection; collection errors are kept."""
    vote = make_result()
    post = make_result(Outcome.FAILED, make_declaration("blog.smoke.BlogTest.test_post"))
    broken = make_collection_error("shop.smoke")
    report = make_report(vote, post, broken)
    narrowed = report.narrowed_to(Selection(names=("polls",)))
    assert narrowed.results == (vote, broken)
    assert narrowed.selection == Selection(names=("polls",))
    assert (narrowed.started_at, narrowed.duration) == (report.started_at, report.duration)


def test_narrowed_to__same_selection() -> None:
    report = make_report(make_result(), selection=Selection(tags=("db",)))
    assert report.narrowed_to(Selection(tags=("db",))) is report


@PROPERTY
@given(reports())
@example(make_report())
@example(make_report(make_result(declaration=make_declaration(databases=("__all__",)))))
@example(make_report(make_result(declaration=make_declaration(maintainer="\ud800"))))
def test_to_dict__round_trip(report: Report) -> None:
    """Any report is restored from JSON unchanged."""
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert isinstance(again.stop_reason, StopReason)
    for result in again.results:
        assert isinstance(result.outcome, Outcome)
        assert isinstance(result.declaration.severity, Severity)
    hash(again)  # fails if a value is not immutable
