"""The results store: what is known of every test, shared by all processes of the site on a host.

A run is recorded in a single transaction: killed in the middle of it, a process leaves the store
as it was.

- `base`: what can be asked and told
- `shared`: a file for all processes; `memory`: the fallback of a process that has no state folder
- `schema`: the tables; `facts`, `reading` and `recording`: what stands in them
- `known`: what is answered
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
