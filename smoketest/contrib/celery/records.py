"""Store the state of round trips for later runs of this host, in files in the state directory."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from smoketest.conf import InvalidSettingError
from smoketest.services import state_folder
from smoketest.store.directory import StateError

#: Fallback without a state directory: the records are kept for runs of this process.
_memory: dict[str, Record] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """State of the round trips of a queue, or of beat. Times are Unix times, 0 if unset."""

    #: Key of the pending task; empty if there is none.
    key: str = ""
    sent_at: float = 0.0
    #: Workers of the queue when the task was sent.
    workers: list[str] = field(default_factory=list)
    #: Whether one of them has stopped since then, so its note of the task may be lost.
    may_be_lost: bool = False
    #: Whether a loss has been excused since the last task returned; only one is.
    is_excused: bool = False
    #: Time at which the first task was sent that has not returned.
    waiting_since: float = 0.0
    #: Unix time at which the last task was known to have returned.
    returned_at: float = 0.0
    #: Time of the last run.
    looked_at: float = 0.0


def load(name: str) -> Record:
    try:
        values = json.loads(_path(name).read_text())
        return Record(**values)
    except (StateError, InvalidSettingError, OSError):
        return _memory.get(name, Record())
    except (ValueError, TypeError):  # empty, truncated, or written by another release
        return Record()


def save(name: str, record: Record) -> None:
    _memory[name] = record
    with suppress(StateError, InvalidSettingError, OSError):
        _path(name).write_text(json.dumps(asdict(record)))


def _path(name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return state_folder().file(f"celery-{digest}.json")
