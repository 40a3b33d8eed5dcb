"""What runs tell later runs of this host, in a small file in the folder of the site's state."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from smoketest.conf import InvalidSettingError
from smoketest.services import state_folder
from smoketest.store.directory import StateError

#: For sites without such a folder: what runs tell later runs of this process.
_memory: dict[str, Record] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """Of a task that goes round, or of beat. Moments are Unix times of this host, 0 if never."""

    #: The key of the task that is under way; empty if none is.
    key: str = ""
    sent_at: float = 0.0
    #: The workers of the queue when it was sent.
    workers: list[str] = field(default_factory=list)
    #: Whether one of them has ended since, and may have taken its note of the task with it.
    may_be_lost: bool = False
    #: Whether that has been allowed for once since a task came back.
    is_excused: bool = False
    #: When the first of those was sent that have not come back.
    waiting_since: float = 0.0
    #: When the last one was known to have come back.
    returned_at: float = 0.0
    #: When a run last looked.
    looked_at: float = 0.0


def load(name: str) -> Record:
    try:
        found = json.loads(_path(name).read_text())
        return Record(**found)
    except (StateError, InvalidSettingError, OSError):
        return _memory.get(name, Record())
    except (ValueError, TypeError):  # empty, cut, or of another release
        return Record()


def save(name: str, record: Record) -> None:
    _memory[name] = record
    with suppress(StateError, InvalidSettingError, OSError):
        _path(name).write_text(json.dumps(asdict(record)))


def _path(name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return state_folder().file(f"celery-{digest}.json")
