"""A results store in the memory of a process."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from smoketest.store.base import Render, ResultsStore, render_nothing
from smoketest.store.schema import make_schema


class MemoryStore(ResultsStore):
    """The fallback without a state folder; its totals are lost when the process ends."""

    is_shared = False
    location = "the memory of this process"

    def __init__(self, render: Render = render_nothing) -> None:
        super().__init__(render)
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._database is None:
                self._database = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
                weakref.finalize(self, self._database.close)
                self._database.execute("PRAGMA foreign_keys = ON")
                make_schema(self._database)
            try:
                yield self._database
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
