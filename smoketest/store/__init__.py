"""The results store: results and totals, shared by all processes of the site on a host.

A run is recorded in a single transaction, so a process that is killed leaves the store consistent.

- `base`: the interface and its implementation with SQLite
- `shared`: the file shared by all processes; `memory`: the fallback without a state folder
- `schema`: the tables; `reading` and `recording`: queries and updates
- `records`: value objects
- `directory`, `locks`, `abandoned`: the state folder, its locks, and the abandoned tests
"""

from smoketest.store.base import Render, ResultsStore
from smoketest.store.memory import MemoryStore
from smoketest.store.records import (
    KnownTest,
    PastResult,
    Pause,
    RunSummary,
    Snapshot,
    Status,
    StoreError,
)
from smoketest.store.shared import FILE_NAME, SharedStore

__all__ = [
    "FILE_NAME",
    "KnownTest",
    "MemoryStore",
    "PastResult",
    "Pause",
    "Render",
    "ResultsStore",
    "RunSummary",
    "SharedStore",
    "Snapshot",
    "Status",
    "StoreError",
]
