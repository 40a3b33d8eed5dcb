"""Remote control commands of the workers: note that a task has run, and return the notes.

The main process of a worker executes them, even while its child processes are busy, and keeps the
notes in memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from celery.worker.control import control_command, inspect_command

from smoketest.contrib.celery.names import NOTE, NOTES

#: Maximum number of notes. A host that runs smoke tests needs at most one per queue.
LIMIT = 1_000

_started = time.monotonic()
#: Monotonic time of the last note by key, the oldest first.
_notes: OrderedDict[str, float] = OrderedDict()


@control_command(name=NOTE, args=[("key", str)], visible=False)  # type: ignore[untyped-decorator]
def note(state: Any, key: str) -> None:  # noqa: ARG001 - passed by the worker
    """Note that the task with this key has run."""
    _notes[key] = time.monotonic()
    _notes.move_to_end(key)
    while len(_notes) > LIMIT:
        _notes.popitem(last=False)


@inspect_command(name=NOTES, visible=False)  # type: ignore[untyped-decorator]
def notes(state: Any, keys: Iterable[str] = ()) -> dict[str, Any]:  # noqa: ARG001
    """Return the age in seconds of the notes with these keys, and the uptime of the worker."""
    now = time.monotonic()
    ages = {key: now - _notes[key] for key in keys if key in _notes}
    return {"ages": ages, "uptime": now - _started}
