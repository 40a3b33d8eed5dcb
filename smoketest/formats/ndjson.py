"""Newline-delimited JSON format: an object for each event of a run.

``waiting`` is sent while another run is in progress, ``start`` at the start of the run with the ids
of its tests, ``running`` at the start of each test, and ``test`` with its result. The last event is
``report`` or ``error``.
"""

from __future__ import annotations

import json
from typing import Any

from smoketest.coordination.coordinator import Answer
from smoketest.formats.json import report_object, result_object
from smoketest.results import Event, Finished, Running, Started, Waiting


def render_event(event: Event | Answer, *, with_tracebacks: bool) -> str:
    """Render an event of a run, or the report as the last event."""
    match event:
        case Answer():
            return render(event, with_tracebacks=with_tracebacks)
        case Waiting():
            return _line("waiting")
        case Started(test_ids):
            return _line("start", tests=len(test_ids), ids=test_ids)
        case Running(test_id):
            return _line("running", id=test_id)
        case Finished(result):
            return _line("test", result=result_object(result, with_traceback=with_tracebacks))


def render(answer: Answer, *, with_tracebacks: bool) -> str:
    """Render the ``report`` event."""
    return _line("report", report=report_object(answer, with_tracebacks=with_tracebacks))


def render_error(status: int, message: str) -> str:
    """Render the ``error`` event. `status` is the HTTP status of this error in other formats."""
    return _line("error", status=status, message=message)


def _line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"
