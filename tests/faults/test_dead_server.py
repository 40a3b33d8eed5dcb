"""A database server that dies in the middle of a run: nothing kept, and soon back to normal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pytest_django import DjangoDbBlocker

from smoketest import SmokeTest
from tests.faults.fault import sql, suite, write
from tests.faults.looking import (
    assert_next_run_is_healthy,
    assert_nothing_is_held,
    changes,
    outcomes,
    run_suite,
)
from tests.faults.places import MariaDBPlace, PostgreSQLPlace, ServerPlace, site
from tests.ledger.models import Account
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import wait_for

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)


@pytest.fixture(params=["postgresql", "mariadb"])
def place(
    request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker
) -> Iterator[ServerPlace]:
    """A place on a server that nobody else needs; its site is there."""
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        place: ServerPlace
        # What was committed has to be there after a crash.
        if request.param == "postgresql":
            place = PostgreSQLPlace(stack.enter_context(PostgreSQL(synchronous_commit="on")))
        else:
            settings = {"innodb-flush-log-at-trx-commit": "2"}
            place = MariaDBPlace(stack.enter_context(MariaDB(**settings)))
        stack.enter_context(place)
        stack.enter_context(site(place.databases()))
        yield place


only_postgresql = pytest.mark.parametrize("place", ["postgresql"], indirect=True)


def test_kill__of_the_server_in_mid_run(place: ServerPlace) -> None:
    """Tests are errored while it is dead; after its restart all is as before the run."""

    class Dies(SmokeTest):
        def test_1(self) -> None:
            write()
            place.close_eyes()
            place.server.kill9()
            write("after")

        def test_2(self) -> None:
            write()

        def test_3(self) -> None:
            """It needs no database."""

    report = run_suite(suite(Dies, "dead"))
    assert outcomes(report) == ("errored", "errored", "passed"), [r.message for r in report.results]
    place.server.start()
    assert_nothing_is_held(place)
    assert changes(place) == []
    assert_next_run_is_healthy(place)
    assert changes(place) == []


def test_kill__after_the_last_statement(place: ServerPlace) -> None:
    """What a test wrote is gone although nobody could roll it back."""

    class Dies(SmokeTest):
        def test_it(self) -> None:
            write()
            place.close_eyes()
            place.server.kill9()

    report = run_suite(suite(Dies, "dead"))
    assert outcomes(report)[0] in ("passed", "errored")
    place.server.start()
    assert_nothing_is_held(place)
    assert changes(place) == []
    assert_next_run_is_healthy(place)


def test_kill__inside_fixtures(place: ServerPlace) -> None:
    """Fixtures that died with the server are made again when it is back."""

    class Dies(SmokeTest):
        @classmethod
        def setUpClass(cls) -> None:
            write("setUpClass")

        def test_1(self) -> None:
            place.close_eyes()
            place.server.kill9()
            write()

        def test_2(self) -> None:
            self.assertEqual(Account.objects.count(), 3)

    report = run_suite(suite(Dies, "dead"))
    assert outcomes(report) == ("errored", "errored"), [r.message for r in report.results]
    place.server.start()
    assert changes(place) == []
    assert_next_run_is_healthy(place)


@only_postgresql
def test_kill__of_one_backend(place: ServerPlace) -> None:
    """PostgreSQL restarts all of its processes then; the next test has a new connection."""

    class Dies(SmokeTest):
        def test_1(self) -> None:
            write()
            ((pid,),) = sql("SELECT pg_backend_pid()")
            os.kill(pid, signal.SIGKILL)
            write("after")

        def test_2(self) -> None:
            wait_for(is_back, what="PostgreSQL to be back")
            self.assertEqual(Account.objects.count(), 2)
            write()

    def is_back() -> bool:
        try:
            return bool(place.server.sql("SELECT 1") == "1")
        except (AssertionError, subprocess.SubprocessError):
            return False

    report = run_suite(suite(Dies, "dead"))
    assert outcomes(report) == ("errored", "passed"), [r.message for r in report.results]
    place.close_eyes()
    assert_nothing_is_held(place)
    assert changes(place) == []
    assert_next_run_is_healthy(place)
