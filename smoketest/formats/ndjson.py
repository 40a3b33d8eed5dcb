"""Newline-delimited JSON: one object an event, for ``curl -N``, scripts and the page.

``start`` names the tests of a run that begins, ``running`` tells of one that begins, ``test`` has
the result of one, ``waiting`` tells of another run that goes on, and ``report`` or ``error`` is the
last.
"""

from __future__ import annotations

import json
from typing import Any

from smoketest.formats.json import report_object, result_object
from smoketest.results import Event, Finished, Report, Running, Started, Waiting
from smoketest.store import Pause


def render_event(event: Event, *, with_tracebacks: bool) -> str:
    match event:
        case Waiting():
            return _line("waiting")
        case Started(test_ids):
            return _line("start", tests=len(test_ids), ids=test_ids)
        case Running(test_id):
            return _line("running", id=test_id)
        case Finished(result):
            return _line("test", result=result_object(result, with_traceback=with_tracebacks))


def render_report(
    report: Report, *, age: float, with_tracebacks: bool, pause: Pause | None = None
) -> str:
    """`age` is how many seconds ago the run ended."""
    content = report_object(report, age=age, with_tracebacks=with_tracebacks, pause=pause)
    return _line("report", report=content)


def render_error(status: int, message: str) -> str:
    """What there is instead of a report, with the status that it would have without events."""
    return _line("error", status=status, message=message)


def _line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"
