"""Database servers of the fault table, each started once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pytest_django import DjangoDbBlocker

from tests.faults.backends import Backend, MariaDBBackend, PostgreSQLBackend, SQLiteBackend
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

#: Vendors, as named by Django. Tests of a group run on one worker, so that its server starts once.
VENDORS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.xdist_group("postgresql")),
    pytest.param("mysql", id="mariadb", marks=pytest.mark.xdist_group("mariadb")),
]
#: The same, with SQLite in both journal modes.
BACKENDS = [*VENDORS, pytest.param("sqlite-wal", id="sqlite-wal")]

Backends = Callable[[str], Backend]


@pytest.fixture(scope="package")
def backends(django_db_blocker: DjangoDbBlocker) -> Iterator[Backends]:
    """Return the backend of a vendor, whose server starts on first use."""
    started: dict[str, Backend] = {}
    with ExitStack() as stack:

        def backend_of(vendor: str) -> Backend:
            if vendor not in started:
                started[vendor] = stack.enter_context(_make(vendor, stack))
            return started[vendor]

        stack.enter_context(django_db_blocker.unblock())
        yield backend_of


def _make(vendor: str, stack: ExitStack) -> Backend:
    if vendor == "postgresql":
        # PREPARE TRANSACTION would work if isolation did not refuse it. The lock timeout of a
        # smoke test always expires before deadlock detection, even on a slow machine.
        server = PostgreSQL(
            autovacuum="off", max_prepared_transactions="10", deadlock_timeout="60s"
        )
        return PostgreSQLBackend(stack.enter_context(server))
    if vendor == "mysql":
        return MariaDBBackend(stack.enter_context(MariaDB()))
    return SQLiteBackend("wal" if vendor == "sqlite-wal" else "delete")
