"""Progress lines of a run."""

from __future__ import annotations

import copy

import pytest

from smoketest.cli import display
from smoketest.results import Event, Finished, Outcome, Result, Running, Severity, Started, Waiting
from tests.builders import make_collection_error, make_declaration, make_result

WARNING = make_declaration(severity=Severity.WARNING)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (make_result(), "passed    polls.smoke.PollsTest.test_vote (0.250 s)"),
        (
            make_result(Outcome.FAILED, message="1 != 2"),
            "failed    polls.smoke.PollsTest.test_vote (0.250 s): 1 != 2",
        ),
        (
            make_result(Outcome.ERRORED, WARNING, message="KeyError: 'x'"),
            "errored   polls.smoke.PollsTest.test_vote (0.250 s) [warning]: KeyError: 'x'",
        ),
        (
            make_result(Outcome.TIMED_OUT, message="timed out after 5 s", duration=5.001),
            "timed out polls.smoke.PollsTest.test_vote (5.001 s): timed out after 5 s",
        ),
        (
            make_result(Outcome.SKIPPED, WARNING, message="no bank today"),
            "skipped   polls.smoke.PollsTest.test_vote: no bank today",
        ),
        (
            make_result(Outcome.NOT_RUN, message="fail-fast"),
            "not run   polls.smoke.PollsTest.test_vote: fail-fast",
        ),
        (
            make_collection_error(message="No module named 'x'"),
            "errored   blog.smoke (0.250 s): No module named 'x'",
        ),
        (
            make_result(Outcome.FAILED, message="First differing element 0:\n1\n  2\r\n"),
            "failed    polls.smoke.PollsTest.test_vote (0.250 s): First differing element 0: 1 2",
        ),
    ],
)
def test_line(result: Result, line: str) -> None:
    """Line breaks in a message are replaced by spaces."""
    assert display.line(result) == line


SITE = '  File "/srv/shop/orders/smoke.py", line 12, in test_it\n    call()\n'
PACKAGE = '  File "/srv/venv/lib/python3.13/site-packages/django/test/utils.py", line 433, in f\n'
LIBRARY = f'  File "{copy.__file__}", line 152, in deepcopy\n'
FROZEN = '  File "<string>", line 1, in <module>\n'


@pytest.mark.parametrize(
    ("traceback", "location"),
    [
        (SITE, "/srv/shop/orders/smoke.py:12"),
        (SITE + PACKAGE + LIBRARY + FROZEN, "/srv/shop/orders/smoke.py:12"),
        (LIBRARY + PACKAGE, "/srv/venv/lib/python3.13/site-packages/django/test/utils.py:433"),
        ("", ""),
    ],
)
def test_location(traceback: str, location: str) -> None:
    """The location is the last line of the site, not the line of a library that it calls."""
    assert display.location(traceback) == location


def written_lines(*events: Event) -> list[tuple[str, Result | None]]:
    written: list[tuple[str, Result | None]] = []
    with display.lines(lambda line, result: written.append((line, result))) as write_event:
        for event in events:
            write_event(event)
    return written


def test_lines() -> None:
    """The number of tests is written first, then a line for each result."""
    result = make_result()
    assert written_lines(Started(("a", "b")), Running("a"), Finished(result)) == [
        ("Running 2 tests.", None),
        (display.line(result), result),
    ]


def test_lines__one_test() -> None:
    assert written_lines(Started(("a",))) == [("Running 1 test.", None)]


def test_lines__waiting() -> None:
    assert written_lines(Waiting()) == [("Another run is in progress; waiting for it.", None)]
