"""Counts and lines of django-smoketest 1.x, for the text and JSON formats."""

from __future__ import annotations

from typing import NamedTuple

from smoketest.results import Outcome, Report, Result


class Counts(NamedTuple):
    """Number of tests by outcome.

    `run` is the sum of `passed`, `failed` and `errored`; `timed_out` is part of `errored`.
    """

    classes: int
    run: int
    passed: int
    failed: int
    errored: int
    timed_out: int
    skipped: int
    not_run: int


def count(report: Report) -> Counts:
    passed = report.count(Outcome.PASSED)
    failed = report.count(Outcome.FAILED)
    timed_out = report.count(Outcome.TIMED_OUT)
    errored = report.count(Outcome.ERRORED) + timed_out
    return Counts(
        classes=len({r.class_id for r in report.results if _is_of_a_class(r)}),
        run=passed + failed + errored,
        passed=passed,
        failed=failed,
        errored=errored,
        timed_out=timed_out,
        skipped=report.count(Outcome.SKIPPED),
        not_run=report.count(Outcome.NOT_RUN),
    )


def _is_of_a_class(result: Result) -> bool:
    return not (result.declaration.is_collection_error or result.declaration.is_fixture)


def failed_lines(report: Report, *, mark: str = "") -> list[str]:
    """Return a line for each failed test. `mark` precedes the messages of warnings."""
    return [_line(result, "failed", mark) for result in report.with_outcome(Outcome.FAILED)]


def errored_lines(report: Report, *, mark: str = "") -> list[str]:
    """Return a line for each errored or timed-out test. `mark` is as in `failed_lines`."""
    errored = report.with_outcome(Outcome.ERRORED, Outcome.TIMED_OUT)
    return [_line(result, "errored", mark) for result in errored]


def warning_lines(report: Report) -> list[str]:
    """Return the lines of failing tests that do not make the run fail."""
    return [
        _line(result, "failed" if result.outcome is Outcome.FAILED else "errored")
        for result in report.warnings
    ]


def _line(result: Result, verb: str, mark: str = "") -> str:
    return f"{result.id} {verb}: {'' if result.is_critical else mark}{result.message}"
