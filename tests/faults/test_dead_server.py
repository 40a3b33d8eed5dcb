"""Database servers that crash during a run: no changes are kept, and later runs pass."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pytest_django import DjangoDbBlocker

from smoketest import SmokeTest
from tests.faults.backends import MariaDBBackend, PostgreSQLBackend, ServerBackend, site
from tests.faults.fault import sql, suite, write
from tests.faults.harness import (
    assert_next_run_is_healthy,
    assert_nothing_held,
    changes,
    outcomes,
    run_suite,
)
from tests.ledger.models import Account
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)


@pytest.fixture(params=["postgresql", "mariadb"])
def backend(
    request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker
) -> Iterator[ServerBackend]:
    """Start a separate server and replace the site's databases with it."""
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        backend: ServerBackend
        # Commits must survive a crash.
        if request.param == "postgresql":
            backend = PostgreSQLBackend(stack.enter_context(PostgreSQL(synchronous_commit="on")))
        else:
            settings = {"innodb-flush-log-at-trx-commit": "2"}
            backend = MariaDBBackend(stack.enter_context(MariaDB(**settings)))
        stack.enter_context(backend)
        stack.enter_context(site(backend.databases()))
        yield backend


only_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


def test_kill__during_run(backend: ServerBackend) -> None:
    """Tests are errored while the server is down, and pass after its restart."""

    class CrashesServer(SmokeTest):
        def test_1(self) -> None:
            write()
            backend.close_observers()
            backend.server.kill9()
            write("after")

        def test_2(self) -> None:
            write()

        def test_3(self) -> None:
            """Use no database."""

    report = run_suite(suite(CrashesServer, "dead"))
    assert outcomes(report) == ("errored", "errored", "passed"), [r.message for r in report.results]
    backend.server.start()
    assert_nothing_held(backend)
    assert changes(backend) == []
    assert_next_run_is_healthy(backend)
    assert changes(backend) == []


def test_kill__after_the_last_statement(backend: ServerBackend) -> None:
    """Changes of a test are lost even though they could not be rolled back."""

    class CrashesServer(SmokeTest):
        def test_it(self) -> None:
            write()
            backend.close_observers()
            backend.server.kill9()

    report = run_suite(suite(CrashesServer, "dead"))
    assert outcomes(report)[0] in ("passed", "errored")
    backend.server.start()
    assert_nothing_held(backend)
    assert changes(backend) == []
    assert_next_run_is_healthy(backend)


def test_kill__with_fixtures(backend: ServerBackend) -> None:
    """Fixtures run again after the server has crashed and been restarted."""

    class CrashesServer(SmokeTest):
        @classmethod
        def setUpClass(cls) -> None:
            write("setUpClass")

        def test_1(self) -> None:
            backend.close_observers()
            backend.server.kill9()
            write()

        def test_2(self) -> None:
            self.assertEqual(Account.objects.count(), 3)

    report = run_suite(suite(CrashesServer, "dead"))
    assert outcomes(report) == ("errored", "errored"), [r.message for r in report.results]
    backend.server.start()
    assert changes(backend) == []
    assert_next_run_is_healthy(backend)


@only_postgresql
def test_kill__postgresql_process(backend: ServerBackend) -> None:
    """PostgreSQL restarts all its processes, and the next test gets a new connection."""

    class CrashesServer(SmokeTest):
        def test_1(self) -> None:
            write()
            ((pid,),) = sql("SELECT pg_backend_pid()")
            os.kill(pid, signal.SIGKILL)
            write("after")

        def test_2(self) -> None:
            wait_for(is_running, what="PostgreSQL to be running")
            self.assertEqual(Account.objects.count(), 2)
            write()

    def is_running() -> bool:
        try:
            return bool(backend.server.sql("SELECT 1") == "1")
        except (AssertionError, subprocess.SubprocessError):
            return False

    report = run_suite(suite(CrashesServer, "dead"))
    assert outcomes(report) == ("errored", "passed"), [r.message for r in report.results]
    backend.close_observers()
    assert_nothing_held(backend)
    assert changes(backend) == []
    assert_next_run_is_healthy(backend)
