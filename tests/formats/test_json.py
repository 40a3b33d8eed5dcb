"""Tests of `smoketest.formats.json`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.formats.json import VERSION, read_report, render
from smoketest.results import Outcome, Report, Result, Selection, Severity, StopReason
from tests.builders import (
    NOW,
    PROPERTY,
    make_answer,
    make_collection_error,
    make_declaration,
    make_report,
    make_result,
    reports,
)

#: Keys after the results in every report of these tests.
TAIL = (
    '], "started_at": "2026-02-01T12:00:00.500+00:00", "cut_short_by": null, "release": "", '
    f'"age": 0.0, "paused": null, "version": {VERSION}}}'
)

#: Keys after the severity in every result of these tests.
REST = (
    '"app": "polls", "exception": "", "started_at": "2026-02-01T12:00:00.500+00:00", '
    '"carried": false, "description": "", "maintainer": "", "runbook_url": "", "tags": [], '
    '"timeout": 10.0, "slow_after": 1.0, "every": 0.0, "is_collection_error": false}'
)

PASSED = (
    '{"status": "PASS", "test_classes": 1, "tests_run": 1, "tests_passed": 1, "tests_failed": 0, '
    '"tests_errored": 0, "failed_tests": [], "errored_tests": [], "time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "passed", "duration": 0.25, '
    '"message": "", "severity": "critical", '
)

FAILED = (
    '{"status": "FAIL", "test_classes": 1, "tests_run": 1, "tests_passed": 0, "tests_failed": 1, '
    '"tests_errored": 0, "failed_tests": ["polls.smoke.PollsTest.test_vote failed: 1 != 2"], '
    '"errored_tests": [], "time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "failed", "duration": 0.25, '
    '"message": "1 != 2", "severity": "critical", '
)

ERRORED = (
    '{"status": "FAIL", "test_classes": 1, "tests_run": 1, "tests_passed": 0, "tests_failed": 0, '
    '"tests_errored": 1, "failed_tests": [], '
    '"errored_tests": ["polls.smoke.PollsTest.test_vote errored: KeyError: \'vote\'"], '
    '"time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "errored", "duration": 0.25, '
    '"message": "KeyError: \'vote\'", "severity": "critical", '
)

TIMED_OUT = (
    '{"status": "FAIL", "test_classes": 1, "tests_run": 1, "tests_passed": 0, "tests_failed": 0, '
    '"tests_errored": 1, "failed_tests": [], '
    '"errored_tests": ["polls.smoke.PollsTest.test_vote errored: timed out after 10 s"], '
    '"time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 1, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "timed_out", "duration": 0.25, '
    '"message": "timed out after 10 s", "severity": "critical", '
)

COLLECTION_ERROR = (
    '{"status": "FAIL", "test_classes": 0, "tests_run": 1, "tests_passed": 0, "tests_failed": 0, '
    '"tests_errored": 1, "failed_tests": [], '
    '"errored_tests": ["blog.smoke errored: No module named \'stripe\'"], "time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "blog.smoke", "outcome": "errored", "duration": 0.25, '
    '"message": "No module named \'stripe\'", "severity": "critical", '
)

REST_OF_COLLECTION_ERROR = (
    '"app": "blog", "exception": "", "started_at": "2026-02-01T12:00:00.500+00:00", '
    '"carried": false, "description": "", "maintainer": "", "runbook_url": "", "tags": [], '
    '"timeout": 0.25, "slow_after": 0.25, "every": 0.0, "is_collection_error": true}'
)

SKIPPED = (
    '{"status": "PASS", "test_classes": 1, "tests_run": 0, "tests_passed": 0, "tests_failed": 0, '
    '"tests_errored": 0, "failed_tests": [], "errored_tests": [], "time": 500.0, '
    '"tests_skipped": 1, "tests_timed_out": 0, "tests_not_run": 0, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "skipped", "duration": 0.25, '
    '"message": "not here", "severity": "critical", '
)

NOT_RUN = (
    '{"status": "FAIL", "test_classes": 1, "tests_run": 0, "tests_passed": 0, "tests_failed": 0, '
    '"tests_errored": 0, "failed_tests": [], "errored_tests": [], "time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 1, "warnings": [], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "not_run", "duration": 0.25, '
    '"message": "the run was over", "severity": "critical", '
)

WARNING = (
    '{"status": "PASS", "test_classes": 1, "tests_run": 1, "tests_passed": 0, "tests_failed": 1, '
    '"tests_errored": 0, '
    '"failed_tests": ["polls.smoke.PollsTest.test_vote failed: disk is nearly full"], '
    '"errored_tests": [], "time": 500.0, '
    '"tests_skipped": 0, "tests_timed_out": 0, "tests_not_run": 0, '
    '"warnings": ["polls.smoke.PollsTest.test_vote failed: disk is nearly full"], "results": ['
    '{"id": "polls.smoke.PollsTest.test_vote", "outcome": "failed", "duration": 0.25, '
    '"message": "disk is nearly full", "severity": "warning", '
)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(make_result(), PASSED + REST + TAIL, id="passed"),
        pytest.param(
            make_result(Outcome.FAILED, message="1 != 2"), FAILED + REST + TAIL, id="failed"
        ),
        pytest.param(
            make_result(Outcome.ERRORED, message="KeyError: 'vote'"),
            ERRORED + REST + TAIL,
            id="errored",
        ),
        pytest.param(
            make_result(Outcome.TIMED_OUT, message="timed out after 10 s"),
            TIMED_OUT + REST + TAIL,
            id="timed out",
        ),
        pytest.param(
            make_collection_error(message="No module named 'stripe'"),
            COLLECTION_ERROR + REST_OF_COLLECTION_ERROR + TAIL,
            id="collection error",
        ),
        pytest.param(
            make_result(Outcome.SKIPPED, message="not here"), SKIPPED + REST + TAIL, id="skipped"
        ),
        pytest.param(
            make_result(Outcome.NOT_RUN, message="the run was over"),
            NOT_RUN + REST + TAIL,
            id="not run",
        ),
        pytest.param(
            make_result(
                Outcome.FAILED,
                make_declaration(severity=Severity.WARNING),
                message="disk is nearly full",
            ),
            WARNING + REST + TAIL,
            id="warning",
        ),
    ],
)
def test_render__bytes(result: Result, expected: str) -> None:
    """The keys of 1.x come first and in its order, followed by the new keys."""
    assert render(make_answer(make_report(result)), with_tracebacks=False) == expected


def rendered(report: Report, *, age: float = 0.0, with_tracebacks: bool = False) -> Any:
    return json.loads(render(make_answer(report, age=age), with_tracebacks=with_tracebacks))


def test_render__declared() -> None:
    """A result contains everything that its test declares."""
    declaration = make_declaration(
        every=3600.0,
        maintainer="payments",
        runbook_url="https://runbooks.example/polls",
        description="Votes can be cast.",
        tags=("db", "readiness"),
    )
    result = make_result(
        Outcome.ERRORED, declaration, exception="OSError", message="no space", carried=True
    )
    assert rendered(make_report(result))["results"] == [
        {
            "id": "polls.smoke.PollsTest.test_vote",
            "outcome": "errored",
            "duration": 0.25,
            "message": "no space",
            "severity": "critical",
            "app": "polls",
            "exception": "OSError",
            "started_at": "2026-02-01T12:00:00.500+00:00",
            "carried": True,
            "description": "Votes can be cast.",
            "maintainer": "payments",
            "runbook_url": "https://runbooks.example/polls",
            "tags": ["db", "readiness"],
            "timeout": 10.0,
            "slow_after": 1.0,
            "every": 3600.0,
            "is_collection_error": False,
        }
    ]


def test_render__run() -> None:
    """A report contains the stop reason, the release and the age of its run."""
    report = make_report(
        stop_reason=StopReason.FAIL_FAST, release="v42", selection=Selection(tags=("db",))
    )
    values = rendered(report, age=1.234_56)
    assert values["cut_short_by"] == "failfast"
    assert values["release"] == "v42"
    assert values["age"] == 1.235


def test_render__tracebacks() -> None:
    """Tracebacks are included only on request."""
    report = make_report(make_result(Outcome.ERRORED, traceback="secret.py, line 1"))
    assert "secret.py" not in render(make_answer(report), with_tracebacks=False)
    assert rendered(report, with_tracebacks=True)["results"][0]["traceback"] == "secret.py, line 1"


def test_render__lone_surrogates() -> None:
    """Surrogates, which UTF-8 cannot encode, are escaped."""
    declaration = make_declaration(maintainer="\ud800", tags=("\udfff",))
    report = make_report(make_result(declaration=declaration), release="\udc80")
    text = render(make_answer(report), with_tracebacks=True)
    assert text.isascii()
    assert json.loads(text)["results"][0]["maintainer"] == "\ud800"


@PROPERTY
@given(reports(), st.floats(0, NOW), st.booleans())
def test_render__any_report(report: Report, age: float, with_tracebacks: bool) -> None:
    """Any report renders to strict JSON whose counts match the lengths of its lists."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    text = render(make_answer(report, age=age), with_tracebacks=with_tracebacks)
    values = json.loads(text, parse_constant=refuse)
    verdicts = [values[f"tests_{verb}"] for verb in ("passed", "failed", "errored")]
    others = values["tests_skipped"] + values["tests_not_run"]
    assert values["status"] == report.status
    assert values["tests_run"] == sum(verdicts)
    assert values["tests_run"] + others == len(values["results"]) == len(report.results)
    assert values["tests_failed"] == len(values["failed_tests"])
    assert values["tests_errored"] == len(values["errored_tests"])
    assert values["tests_timed_out"] <= values["tests_errored"]
    lines = values["failed_tests"] + values["errored_tests"]
    assert all(line in lines for line in values["warnings"])
    assert len(values["warnings"]) == len(report.warnings)
    for result, shown in zip(report.results, values["results"], strict=True):
        assert (shown["id"], shown["outcome"]) == (result.id, result.outcome)
        assert shown["message"] == result.message


def test_read_report() -> None:
    """Reading a rendered report restores it, with times rounded to milliseconds."""
    declaration = make_declaration(
        tags=("db", "slow"),
        severity=Severity.WARNING,
        every=60.0,
        maintainer="shop",
        description="Votes count.",
        runbook_url="https://x.example/",
    )
    selection = Selection(tags=("db",))
    report = make_report(
        make_result(Outcome.FAILED, declaration, message="1 != 2", exception="AssertionError"),
        make_result(Outcome.SKIPPED, make_declaration("polls.smoke.T.test_it"), carried=True),
        selection=selection,
        stop_reason=StopReason.DEADLINE,
        release="v42",
    )
    assert read_report(rendered(report), selection) == report


@PROPERTY
@given(reports(), st.booleans())
def test_read_report__any_report(report: Report, with_tracebacks: bool) -> None:
    """Rendering a report that was read produces the same text, except for rounded times."""
    values = rendered(report, with_tracebacks=with_tracebacks)
    again = rendered(read_report(values, report.selection), with_tracebacks=with_tracebacks)
    assert again.pop("time") == pytest.approx(values.pop("time"))
    assert again == values


@pytest.mark.parametrize(
    "change",
    [
        {"results": None},
        {"results": [{}]},
        {"results": ["polls"]},
        {"started_at": 5},
        {"started_at": "yesterday"},
        {"time": "500"},
        {"cut_short_by": "lightning"},
    ],
)
def test_read_report__invalid(change: dict[str, Any]) -> None:
    """JSON that is not a report of this package is rejected."""
    with pytest.raises(ValueError):  # noqa: PT011 - from several parsers
        read_report(rendered(make_report(make_result())) | change, Selection())


def test_read_report__version_1() -> None:
    """A response of django-smoketest 1.x, which has counts but no results, is rejected."""
    values = rendered(make_report(make_result()))
    first = {key: values[key] for key in list(values)[: list(values).index("tests_skipped")]}
    with pytest.raises(ValueError, match=r"not a report of django-smoketest 2 .*results"):
        read_report(first, Selection())


def test_read_report__other_version() -> None:
    values = rendered(make_report(make_result()))
    assert read_report(values, Selection())
    del values["version"]  # as release 2.0 renders it
    assert read_report(values, Selection())
    with pytest.raises(ValueError, match=r"^version 3 of the format, but this release reads only"):
        read_report(values | {"version": 3}, Selection())
