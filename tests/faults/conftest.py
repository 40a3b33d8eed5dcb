"""The databases of the rows: started once, for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pytest_django import DjangoDbBlocker

from tests.faults.places import MariaDBPlace, Place, PostgreSQLPlace, SQLitePlace
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

#: By vendor, as Django names it. A group runs on one worker, so that each server starts once.
VENDORS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.xdist_group("postgresql")),
    pytest.param("mysql", id="mariadb", marks=pytest.mark.xdist_group("mariadb")),
]

Places = Callable[[str], Place]


@pytest.fixture(scope="package")
def places(django_db_blocker: DjangoDbBlocker) -> Iterator[Places]:
    """The place of a vendor; its server is started when it is first asked for."""
    started: dict[str, Place] = {}
    with ExitStack() as stack:

        def place_of(vendor: str) -> Place:
            if vendor not in started:
                started[vendor] = stack.enter_context(_make(vendor, stack))
            return started[vendor]

        stack.enter_context(django_db_blocker.unblock())
        yield place_of


def _make(vendor: str, stack: ExitStack) -> Place:
    if vendor == "postgresql":
        # PREPARE TRANSACTION would work if isolation did not refuse it. The lock timeout of a smoke
        # test always comes before the deadlock detection, even on a slow machine.
        server = PostgreSQL(
            autovacuum="off", max_prepared_transactions="10", deadlock_timeout="60s"
        )
        return PostgreSQLPlace(stack.enter_context(server))
    if vendor == "mysql":
        return MariaDBPlace(stack.enter_context(MariaDB()))
    return SQLitePlace()
