"""Text format, including the counts and messages that it shares with JSON."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from smoketest.formats import text
from smoketest.results import Outcome, Report, Severity
from smoketest.runner.failures import escape_controls
from tests.builders import (
    PROPERTY,
    make_answer,
    make_collection_error,
    make_declaration,
    make_report,
    make_result,
    reports,
)


def render(report: Report) -> str:
    return text.render(make_answer(report), with_tracebacks=False)


PASSED = """\
PASS
test classes: 1
tests run: 1
tests passed: 1
tests failed: 0
tests errored: 0
time: 500.000000ms



"""

FAILED = """\
FAIL
test classes: 1
tests run: 1
tests passed: 0
tests failed: 1
tests errored: 0
time: 500.000000ms

polls.smoke.PollsTest.test_vote failed: 1 != 2

"""

ERRORED = """\
FAIL
test classes: 1
tests run: 1
tests passed: 0
tests failed: 0
tests errored: 1
time: 500.000000ms



polls.smoke.PollsTest.test_vote errored: KeyError: 'vote'"""

TIMED_OUT = """\
FAIL
test classes: 1
tests run: 1
tests passed: 0
tests failed: 0
tests errored: 1
time: 500.000000ms



polls.smoke.PollsTest.test_vote errored: timed out after 10 s"""

COLLECTION_ERROR = """\
FAIL
test classes: 0
tests run: 1
tests passed: 0
tests failed: 0
tests errored: 1
time: 500.000000ms



blog.smoke errored: No module named 'stripe'"""

SKIPPED = """\
PASS
test classes: 1
tests run: 0
tests passed: 0
tests failed: 0
tests errored: 0
tests skipped: 1
time: 500.000000ms



"""

NOT_RUN = """\
FAIL
test classes: 1
tests run: 0
tests passed: 0
tests failed: 0
tests errored: 0
tests not run: 1
time: 500.000000ms



"""

WARNING = """\
PASS
test classes: 1
tests run: 1
tests passed: 0
tests failed: 1
tests errored: 0
warnings: 1
time: 500.000000ms

polls.smoke.PollsTest.test_vote failed: [warning] disk is nearly full

"""

MIXED = """\
FAIL
test classes: 2
tests run: 6
tests passed: 1
tests failed: 2
tests errored: 3
tests skipped: 1
tests not run: 1
time: 500.000000ms

blog.smoke.BlogTest.test_b failed: two\\nlines

blog.smoke.BlogTest.test_d failed: é😀

blog.smoke.BlogTest.test_c errored: boom

polls.smoke.PollsTest.test_vote errored: timed out after 10 s

shop.smoke errored: SyntaxError"""


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(make_report(make_result()), PASSED, id="passed"),
        pytest.param(
            make_report(make_result(Outcome.FAILED, message="1 != 2")), FAILED, id="failed"
        ),
        pytest.param(
            make_report(make_result(Outcome.ERRORED, message="KeyError: 'vote'")),
            ERRORED,
            id="errored",
        ),
        pytest.param(
            make_report(make_result(Outcome.TIMED_OUT, message="timed out after 10 s")),
            TIMED_OUT,
            id="timed out",
        ),
        pytest.param(
            make_report(make_collection_error(message="No module named 'stripe'")),
            COLLECTION_ERROR,
            id="collection error",
        ),
        pytest.param(
            make_report(make_result(Outcome.SKIPPED, message="not here")), SKIPPED, id="skipped"
        ),
        pytest.param(
            make_report(make_result(Outcome.NOT_RUN, message="the run was over")),
            NOT_RUN,
            id="not run",
        ),
        pytest.param(
            make_report(
                make_result(
                    Outcome.FAILED,
                    make_declaration(severity=Severity.WARNING),
                    message="disk is nearly full",
                )
            ),
            WARNING,
            id="warning",
        ),
        pytest.param(
            make_report(
                make_result(declaration=make_declaration("blog.smoke.BlogTest.test_a")),
                make_result(
                    Outcome.FAILED,
                    make_declaration("blog.smoke.BlogTest.test_b"),
                    message="two\nlines",
                ),
                make_result(
                    Outcome.ERRORED, make_declaration("blog.smoke.BlogTest.test_c"), message="boom"
                ),
                make_result(
                    Outcome.FAILED, make_declaration("blog.smoke.BlogTest.test_d"), message="é😀"
                ),
                make_result(Outcome.SKIPPED, make_declaration("blog.smoke.BlogTest.test_e")),
                make_result(Outcome.NOT_RUN, make_declaration("blog.smoke.BlogTest.test_f")),
                make_result(Outcome.TIMED_OUT, message="timed out after 10 s"),
                make_collection_error("shop.smoke", message="SyntaxError"),
            ),
            MIXED,
            id="mixed",
        ),
    ],
)
def test_render__bytes(report: Report, expected: str) -> None:
    """The text is identical to 1.x, except for lines about features that 1.x did not have."""
    assert render(report) == expected


def test_render__time() -> None:
    """The time is in milliseconds with six decimals."""
    assert "\ntime: 12.345679ms\n" in render(make_report(duration=0.012_345_678_9))


def test_render__fixtures_not_counted_as_classes() -> None:
    """Results of class and module fixtures do not count as test classes."""
    report = make_report(
        make_result(declaration=make_declaration("a.smoke.SiteTest.test_up")),
        make_result(Outcome.FAILED, make_declaration("a.smoke.SiteTest.tearDownClass")),
        make_result(Outcome.FAILED, make_declaration("a.smoke.tearDownModule")),
    )
    assert "\ntest classes: 1\n" in render(report)


def test_render__classes_with_the_same_name() -> None:
    """Classes with the same name in different modules are counted separately."""
    report = make_report(
        make_result(declaration=make_declaration("a.smoke.SiteTest.test_up")),
        make_result(declaration=make_declaration("b.smoke.SiteTest.test_up")),
        make_result(declaration=make_declaration("b.smoke.SiteTest.test_down")),
    )
    assert "\ntest classes: 2\n" in render(report)


@PROPERTY
@given(reports())
def test_render__any_report(report: Report) -> None:
    """Any report renders to text whose counts add up and that lists every problem."""
    rendered = render(report)
    head = rendered.partition("\n\n")[0].splitlines()
    counts = dict(re.findall(r"^(tests? [a-z ]+): (\d+)$", "\n".join(head), re.MULTILINE))
    number = {name: int(count) for name, count in counts.items()}
    executed = [number[f"tests {verb}"] for verb in ("passed", "failed", "errored")]
    others = number.get("tests skipped", 0) + number.get("tests not run", 0)
    assert head[0] == report.status
    assert re.fullmatch(r"time: \d+\.\d{6}ms", head[-1])
    assert number["tests run"] == sum(executed)
    assert number["tests run"] + others == len(report.results)
    for result in report.problems:
        verb = "failed" if result.outcome is Outcome.FAILED else "errored"
        mark = "" if result.is_critical else "[warning] "
        line = f"{result.id} {verb}: {mark}{result.message}"
        assert escape_controls(line) in rendered


def test_render__control_characters() -> None:
    """A message cannot forge lines of the report, nor control the terminal."""
    failure = make_result(Outcome.FAILED, message="1 != 2\nPASS\x1b[2J")
    assert render(make_report(failure)).count("\nPASS") == 0
    assert r"1 != 2\nPASS\x1b[2J" in render(make_report(failure))
    assert text.render_error(404, "No smoke test is named a\nPASS.") == (
        "No smoke test is named a\\nPASS.\n"
    )
