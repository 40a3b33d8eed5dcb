"""The rolled-back transaction around everything that a smoke test does, on every database.

A thread that runs smoke tests holds a `ThreadIsolation`. It gives the thread connections of its
own, opened when a test first touches them, and lets statements through only inside a *frame*: the
transaction of a test, or of a class's or module's fixtures with the tests' savepoints inside.

- `thread`: the frames of a thread, and who may pass
- `connection`: a private copy of a database connection that begins lazily and always rolls back
- `vendor` and the modules named after one: what differs between databases
"""

from smoketest.isolation.connection import VENDORS
from smoketest.isolation.errors import (
    IsolationError,
    RefusedStatementError,
    TransactionEndedError,
)
from smoketest.isolation.thread import Scope, ThreadIsolation, Waiting, is_isolated
from smoketest.isolation.vendor import Limits

__all__ = [
    "VENDORS",
    "IsolationError",
    "Limits",
    "RefusedStatementError",
    "Scope",
    "ThreadIsolation",
    "TransactionEndedError",
    "Waiting",
    "is_isolated",
]
