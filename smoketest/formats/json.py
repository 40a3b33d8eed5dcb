"""JSON format: the keys of django-smoketest 1.x, and an object for each test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from smoketest.coordination.coordinator import Answer
from smoketest.formats.counts import count, errored_lines, failed_lines, warning_lines
from smoketest.results import (
    Declaration,
    Outcome,
    Report,
    Result,
    Selection,
    Severity,
    StopReason,
    from_iso,
    iso,
)

#: Version of the format. It changes if a key is removed or its meaning changes, and not if a key is
#: added. Reports without this key are those of releases up to 2.0.
VERSION = 2


def render(answer: Answer, *, with_tracebacks: bool) -> str:
    """Render a report."""
    return json.dumps(report_object(answer, with_tracebacks=with_tracebacks))


def render_error(status: int, message: str) -> str:  # noqa: ARG001 - the same for each status
    """Render an error, with the keys of a report of django-smoketest 1.x that has failed.

    Code that reads only these keys must not mistake the error for a passed run.
    """
    return json.dumps(
        {
            "status": "FAIL",
            "test_classes": 0,
            "tests_run": 1,
            "tests_passed": 0,
            "tests_failed": 0,
            "tests_errored": 1,
            "failed_tests": [],
            "errored_tests": [message],
            "time": 0.0,
            "error": message,
            "version": VERSION,
        }
    )


def report_object(answer: Answer, *, with_tracebacks: bool) -> dict[str, Any]:
    report, pause = answer.report, answer.pause
    counts = count(report)
    return {
        "status": report.status,
        "test_classes": counts.classes,
        "tests_run": counts.run,
        "tests_passed": counts.passed,
        "tests_failed": counts.failed,
        "tests_errored": counts.errored,
        "failed_tests": failed_lines(report),
        "errored_tests": errored_lines(report),
        "time": report.duration * 1000,
        "tests_skipped": counts.skipped,
        "tests_timed_out": counts.timed_out,
        "tests_not_run": counts.not_run,
        "warnings": warning_lines(report),
        "results": [
            result_object(result, with_traceback=with_tracebacks) for result in report.results
        ],
        "started_at": iso(report.started_at),
        "cut_short_by": report.stop_reason.value or None,
        "release": report.release,
        "age": round(answer.age, 3),
        "paused": {"until": iso(pause.until), "reason": pause.reason} if pause else None,
        "version": VERSION,
    }


def result_object(result: Result, *, with_traceback: bool) -> dict[str, Any]:
    declared = result.declaration
    values = {
        "id": result.id,
        "outcome": result.outcome,
        "duration": result.duration,
        "message": result.message,
        "severity": declared.severity,
        "app": declared.app,
        "exception": result.exception,
        "started_at": iso(result.started_at),
        "carried": result.carried,
        "description": declared.description,
        "maintainer": declared.maintainer,
        "runbook_url": declared.runbook_url,
        "tags": declared.tags,
        "timeout": declared.timeout,
        "slow_after": declared.slow_after,
        "every": declared.every,
        "is_collection_error": declared.is_collection_error,
    }
    return {**values, "traceback": result.traceback} if with_traceback else values


def read_report(values: Mapping[str, Any], selection: Selection) -> Report:
    """Return the report in the JSON object that another site returned for the selection.

    Raise `ValueError` if the format is different, such as that of django-smoketest 1.x.
    """
    if (version := values.get("version", VERSION)) != VERSION:
        msg = f"version {version!r} of the format, but this release reads only version {VERSION}"
        raise ValueError(msg)
    try:
        return Report(
            selection=selection,
            results=tuple(map(_read_result, values["results"])),
            started_at=from_iso(values["started_at"]),
            duration=values["time"] / 1000,
            stop_reason=StopReason(values["cut_short_by"] or ""),
            release=values["release"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"not a report of django-smoketest 2 ({error!r})"
        raise ValueError(msg) from error


def _read_result(values: Mapping[str, Any]) -> Result:
    return Result(
        declaration=Declaration(
            id=values["id"],
            app=values["app"],
            severity=Severity(values["severity"]),
            timeout=values["timeout"],
            slow_after=values["slow_after"],
            every=values["every"],
            maintainer=values["maintainer"],
            runbook_url=values["runbook_url"],
            description=values["description"],
            tags=tuple(values["tags"]),
            is_collection_error=values["is_collection_error"],
        ),
        outcome=Outcome(values["outcome"]),
        message=values["message"],
        exception=values["exception"],
        traceback=values.get("traceback", ""),
        started_at=from_iso(values["started_at"]),
        duration=values["duration"],
        carried=values["carried"],
    )
