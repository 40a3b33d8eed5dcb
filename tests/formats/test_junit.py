"""JUnit XML, read with junitparser."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from smoketest.formats import junit
from smoketest.results import Outcome, Report, Result, Severity
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


def render(report: Report) -> str:
    return junit.render(make_answer(report), with_tracebacks=True)


TestCase.__test__ = TestSuite.__test__ = False  # pytest would collect them


def elements(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(render(report).encode())  # noqa: S314 - our own output


def parse(report: Report) -> JUnitXml:
    return JUnitXml.fromstring(render(report).encode())


def only_case(result: Result) -> TestCase:
    (suite,) = parse(make_report(result))
    (case,) = suite
    return case


def test_document() -> None:
    """The document starts with an XML declaration and ends with a newline."""
    content = render(make_report(make_result()))
    assert content.startswith('<?xml version="1.0" encoding="utf-8"?>\n<testsuites ')
    assert content.endswith("</testsuites>\n")


def test_passed() -> None:
    """A test case has its class, name, start time and duration."""
    (suite,) = parse(make_report(make_result()))
    assert suite.name == "polls.smoke.PollsTest"
    assert suite.timestamp == "2026-02-01T12:00:00"
    assert suite.time == 0.25
    (case,) = suite
    assert (case.classname, case.name) == ("polls.smoke.PollsTest", "test_vote")
    assert case.time == 0.25
    assert case.is_passed
    assert case.result == []


def test_failed() -> None:
    """A failure has the message as an attribute and the traceback as its text."""
    result = make_result(
        Outcome.FAILED, message="1 != 2", exception="AssertionError", traceback="File x\n1 != 2"
    )
    (failure,) = only_case(result).result
    assert isinstance(failure, Failure)
    assert (failure.message, failure.type) == ("1 != 2", "AssertionError")
    assert failure.text == "File x\n1 != 2"


@pytest.mark.parametrize("outcome", [Outcome.ERRORED, Outcome.TIMED_OUT])
def test_errored(outcome: Outcome) -> None:
    """Errors and timeouts are errors; without a traceback, the text is the message."""
    (error,) = only_case(make_result(outcome, message="timed out after 5 s")).result
    assert isinstance(error, Error)
    assert error.message == error.text == "timed out after 5 s"
    assert error.type == outcome


def test_skipped() -> None:
    (skipped,) = only_case(make_result(Outcome.SKIPPED, message="no bank today")).result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "no bank today"


def test_not_run() -> None:
    """Tests that were not run are reported as skipped, with the reason."""
    result = make_result(Outcome.NOT_RUN, message="another test had failed (fail-fast)")
    (skipped,) = only_case(result).result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "not run: another test had failed (fail-fast)"


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERRORED, Outcome.TIMED_OUT])
def test_warning(outcome: Outcome) -> None:
    """A failing warning is reported as skipped, so that it does not fail the build."""
    declaration = make_declaration(severity=Severity.WARNING)
    (skipped,) = only_case(make_result(outcome, declaration, message="disk is 91 % full")).result
    assert isinstance(skipped, Skipped)
    assert skipped.message == f"warning, {outcome.words}: disk is 91 % full"


def test_collection_error() -> None:
    """A collection error is an error of a test case named after the module."""
    case = only_case(make_collection_error(message="No module named 'x'"))
    assert (case.classname, case.name) == ("blog", "smoke")
    assert isinstance(case.result[0], Error)


def test_suites() -> None:
    """Each class has a single suite, even if its fixture results come after other classes."""
    names = ["a.T.test_1", "a.T.test_2", "a.U.test_1", "a.T.tearDownClass"]
    report = make_report(*(make_result(declaration=make_declaration(name)) for name in names))
    assert [(suite.name, [case.name for case in suite]) for suite in parse(report)] == [
        ("a.T", ["test_1", "test_2", "tearDownClass"]),
        ("a.U", ["test_1"]),
    ]


def test_suite__start_and_duration() -> None:
    """A suite starts with its earliest test and takes the sum of the durations of its tests."""
    results = [
        make_result(declaration=make_declaration(f"a.T.test_{n}"), started_at=NOW - n)
        for n in range(3)
    ]
    (suite,) = parse(make_report(*results))
    assert suite.timestamp == "2026-02-01T11:59:58"
    assert suite.time == 0.75


def test_characters__invalid_in_xml() -> None:
    """Characters that XML does not allow are replaced; markup characters are escaped."""
    case = only_case(make_result(Outcome.FAILED, message="\0<b>&\"'\x1b[31m ü 😀 ]]>\ufffe"))
    expected = "\ufffd<b>&\"'\ufffd[31m ü 😀 ]]>\ufffd"
    assert case.result[0].message == case.result[0].text == expected


def test_counts() -> None:
    """The root and each suite have the counts of the Jenkins schema."""
    warning = make_declaration("b.T.test_warns", severity=Severity.WARNING)
    report = make_report(
        make_result(declaration=make_declaration("a.T.test_passes")),
        make_result(Outcome.FAILED, make_declaration("a.T.test_fails")),
        make_result(Outcome.ERRORED, make_declaration("b.T.test_raises")),
        make_result(Outcome.FAILED, warning),
        duration=2.5,
    )
    root = elements(report)
    assert root.attrib == {
        "name": "smoke tests",
        "time": "2.500",
        "tests": "4",
        "failures": "1",
        "errors": "1",
    }
    counted = ("tests", "failures", "errors", "skipped")
    assert [[suite.get(name) for name in counted] for suite in root] == [
        ["2", "1", "0", "0"],
        ["2", "0", "1", "1"],
    ]


def test_no_results() -> None:
    assert list(parse(make_report())) == []


#: Attributes that the schema published by Jenkins allows on the elements used here.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "time", "timestamp", "tests", "failures", "errors", "skipped"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


@PROPERTY
@given(reports())
def test_any_report(report: Report) -> None:
    """Any report conforms to the schema, and its counts match its test cases."""
    for element in elements(report).iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag]
        assert re.fullmatch(r"[0-9]+\.[0-9]{3}", element.get("time", "0.000"))
    parsed = parse(report)
    suites = list(parsed)
    cases = [case for suite in suites for case in suite]
    assert len(cases) == len(report.results)
    for counts, expected_cases in ((parsed, cases), *((suite, list(suite)) for suite in suites)):
        assert counts.tests == len(expected_cases)
        assert counts.failures == sum(case.is_failure for case in expected_cases)
        assert counts.errors == sum(case.is_error for case in expected_cases)
    for suite in suites:
        assert suite.skipped == sum(case.is_skipped for case in suite)
    # The build fails if and only if a critical test failed, errored or timed out.
    is_broken = bool(parsed.failures or parsed.errors)
    assert is_broken == any(result.is_critical for result in report.problems)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(render(make_report(make_result(message="ü"))), encoding="utf-8")
    assert JUnitXml.fromfile(str(path)).tests == 1
