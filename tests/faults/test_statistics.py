"""Statement statistics of the server, which should not grow with each run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import transaction
from pytest_django import DjangoDbBlocker

from smoketest import SmokeTest
from tests.faults.backends import MariaDBBackend, PostgreSQLBackend, ServerBackend, site
from tests.faults.fault import suite, write
from tests.faults.harness import outcomes, run_suite
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

pytestmark = pytest.mark.e2e


class Nests(SmokeTest):
    """Class and module fixtures, and tests with nested blocks and savepoints."""

    __test__ = False  # for pytest

    @classmethod
    def setUpClass(cls) -> None:
        write("of the class")

    def test_1(self) -> None:
        for _ in range(3):
            with transaction.atomic():
                write()
                with suppress(ZeroDivisionError), transaction.atomic():
                    raise ZeroDivisionError
                transaction.set_rollback(True)
        create = getattr(transaction, "savepoint_create", None) or transaction.savepoint
        transaction.savepoint_rollback(create())

    test_2 = test_3 = test_1


def postgresql() -> PostgreSQLBackend:
    """Start a server with the extension pg_stat_statements."""
    server = PostgreSQL(shared_preload_libraries="pg_stat_statements")
    server.__enter__()
    server.sql("CREATE EXTENSION pg_stat_statements")
    return PostgreSQLBackend(server)


def mariadb() -> MariaDBBackend:
    """Start a server with its performance schema."""
    server = MariaDB(**{"performance-schema": "ON"})
    server.__enter__()
    return MariaDBBackend(server)


STATEMENTS = {
    "postgresql": "SELECT query FROM pg_stat_statements",
    "mysql": "SELECT digest_text FROM performance_schema.events_statements_summary_by_digest",
}


@pytest.mark.parametrize("make", [postgresql, mariadb])
def test_statistics__do_not_grow_with_each_run(
    make: Callable[[], ServerBackend], django_db_blocker: DjangoDbBlocker
) -> None:
    """A run with other threads, and other nesting before it, executes no new statements."""
    with django_db_blocker.unblock(), make() as backend, site(backend.databases()):

        def statements() -> set[str]:
            return {
                text
                for (text,) in backend.observe(STATEMENTS[backend.vendor])
                if "SAVEPOINT" in text
            }

        seen = []
        for _ in range(3):
            report = run_suite(suite(Nests, "statistics"))
            assert set(outcomes(report)) == {"passed"}, report.results[0].message
            seen.append(statements())
        assert seen[0]
        assert seen[1] == seen[2] == seen[0]
