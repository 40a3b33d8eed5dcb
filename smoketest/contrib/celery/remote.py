"""Commands of the workers: what they keep of the tasks that went round, and tell who asks.

The main process of a worker answers them, while its children are busy as well. Nothing is kept
outside of its memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from celery.worker.control import control_command, inspect_command

from smoketest.contrib.celery.names import NOTE, NOTES

#: Notes that a worker keeps; each host that runs smoke tests needs one a queue at most.
LIMIT = 1_000

_started = time.monotonic()
#: When each key was noted last, on the monotonic clock; the oldest come first.
_notes: OrderedDict[str, float] = OrderedDict()


@control_command(name=NOTE, args=[("key", str)], visible=False)  # type: ignore[untyped-decorator]
def note(state: Any, key: str) -> None:  # noqa: ARG001 - the worker passes it
    """A task has run."""
    _notes[key] = time.monotonic()
    _notes.move_to_end(key)
    while len(_notes) > LIMIT:
        _notes.popitem(last=False)


@inspect_command(name=NOTES, visible=False)  # type: ignore[untyped-decorator]
def notes(state: Any, keys: Iterable[str] = ()) -> dict[str, Any]:  # noqa: ARG001
    """How many seconds ago each of these keys was noted, if it was; and since when I know."""
    now = time.monotonic()
    ages = {key: now - _notes[key] for key in keys if key in _notes}
    return {"ages": ages, "uptime": now - _started}
