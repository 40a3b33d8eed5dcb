"""Isolation of smoke tests: a transaction on every database that is always rolled back.

A thread that runs smoke tests enters a `ThreadIsolation`, which replaces its entries in
`django.db.connections` with private connections that connect on first use. Statements are allowed
only inside a *scope*: the transaction of a test, or the transaction of class or module fixtures,
in which each test is a savepoint.

- `thread`: the scopes of a thread, and the check before each statement
- `connection`: a private connection that begins its transaction lazily and always rolls back
- `vendor`, `sqlite`, `postgresql`, `mysql`: database-specific limits and restrictions
"""

from smoketest.isolation.connection import VENDORS, is_supported
from smoketest.isolation.errors import (
    IsolationError,
    RefusedStatementError,
    TransactionEndedError,
)
from smoketest.isolation.thread import Scope, ThreadIsolation, Waiting, is_isolated, refuse
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
    "is_supported",
    "refuse",
]
