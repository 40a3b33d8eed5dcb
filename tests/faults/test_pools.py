"""Connection pools of the site: smoke tests take nothing from them and change nothing in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, connections, transaction

from smoketest import SmokeTest, options
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import ServerBackend, site
from tests.faults.conftest import Backends
from tests.faults.fault import hang, sql, suite, write
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.hanging import released, reset
from tests.ledger.models import Account
from tests.servers.pgbouncer import PgBouncer
from tests.servers.processes import wait_for
from tests.servers.services import missing

pytestmark = pytest.mark.e2e

#: Number of runs with faulty tests.
RUNS = 20


class Faulty(SmokeTest):
    """Tests that change the session, keep locks, hang, and try to commit."""

    __test__ = False  # for pytest

    def test_1_changes_session(self) -> None:
        if connection.vendor == "postgresql":
            sql("SET statement_timeout = 1234")
            sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            sql("SELECT pg_advisory_lock(4711)")
        else:
            sql("SET SESSION max_statement_time = 1.5")
            sql("SELECT GET_LOCK('smoketest', 1)")
        write()

    def test_2_commits(self) -> None:
        write()
        sql("COMMIT")

    def test_3_uses_driver(self) -> None:
        write()
        connection.connection.cursor().execute("SELECT 1")
        raise ZeroDivisionError

    @options(timeout=0.3)
    def test_4_hangs(self) -> None:
        write()
        hang()

    def test_5_closes(self) -> None:
        write()
        connection.close()


class FaultyReadOnly(SmokeTest):
    """A test that is read-only."""

    __test__ = False  # for pytest
    read_only = True

    def test_it(self) -> None:
        Account.objects.count()


class LocksSession(SmokeTest):
    """Tests that lock the session, with Django and past the checked cursors of the driver."""

    __test__ = False  # for pytest

    def test_1(self) -> None:
        sql("SELECT pg_advisory_lock(4711)")

    def test_2(self) -> None:
        from psycopg import ClientCursor  # noqa: PLC0415

        connection.ensure_connection()
        ClientCursor(connection.connection).execute("SELECT pg_advisory_lock(4712)")


@dataclass(frozen=True)
class Pool:
    """A backend with a pool, and how to see its connections."""

    package: str
    vendor: str
    settings: Mapping[str, Any]
    #: Returns the numbers of open connections and of those that are in use.
    counts: Callable[[], tuple[int, int]]
    dispose: Callable[[], None]


def _sqlalchemy_counts() -> tuple[int, int]:
    from dj_db_conn_pool.core import pool_container  # noqa: PLC0415

    pool = pool_container.get("default")
    return pool.checkedin() + pool.checkedout(), pool.checkedout()


def _sqlalchemy_dispose() -> None:
    from dj_db_conn_pool.core import pool_container  # noqa: PLC0415

    pool_container.pop("default").dispose()


def _gevent_pool() -> Any:
    return connection._connection_pools["default"]  # type: ignore[attr-defined]


def _gevent_counts() -> tuple[int, int]:
    pool = _gevent_pool()
    return pool.size, pool.size - pool.pool.qsize()


def _gevent_dispose() -> None:
    _gevent_pool().close()
    connection._connection_pools.clear()  # type: ignore[attr-defined]


def _django_counts() -> tuple[int, int]:
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    return stats["pool_size"], stats["pool_size"] - stats["pool_available"]


def _django_dispose() -> None:
    connection.close_pool()  # type: ignore[attr-defined]


POOLS = {
    "dj_db_conn_pool-mariadb": Pool(
        "dj_db_conn_pool",
        "mysql",
        {
            "ENGINE": "dj_db_conn_pool.backends.mysql",
            "POOL_OPTIONS": {"POOL_SIZE": 1, "MAX_OVERFLOW": 0, "TIMEOUT": 5},
        },
        _sqlalchemy_counts,
        _sqlalchemy_dispose,
    ),
    "dj_db_conn_pool-postgresql": Pool(
        "dj_db_conn_pool",
        "postgresql",
        {
            "ENGINE": "dj_db_conn_pool.backends.postgresql",
            "POOL_OPTIONS": {"POOL_SIZE": 1, "MAX_OVERFLOW": 0, "TIMEOUT": 5},
        },
        _sqlalchemy_counts,
        _sqlalchemy_dispose,
    ),
    "django_db_geventpool": Pool(
        "django_db_geventpool",
        "postgresql",
        {
            "ENGINE": "django_db_geventpool.backends.postgresql_psycopg3",
            "OPTIONS": {"MAX_CONNS": 1, "REUSE_CONNS": 1},
            "CONN_MAX_AGE": 0,
        },
        _gevent_counts,
        _gevent_dispose,
    ),
    "django": Pool(
        "psycopg_pool",
        "postgresql",
        {"OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}},
        _django_counts,
        _django_dispose,
    ),
}


@contextmanager
def pooled(backends: Backends, pool: Pool) -> Iterator[ServerBackend]:
    """Provide a site whose database `default` has the pool."""
    if importlib.util.find_spec(pool.package) is None:
        missing(f"{pool.package} is not installed")
    backend = backends(pool.vendor)
    assert isinstance(backend, ServerBackend)
    databases = backend.databases()
    databases["default"] |= pool.settings
    with backend.restore_on_error(), site(databases):
        try:
            yield backend
        finally:
            released.set()
            connection.close()
            with suppress(Exception):
                pool.dispose()


SESSION = {
    "mysql": "SELECT @@session.tx_read_only, @@max_statement_time, @@lock_wait_timeout,"
    " @@innodb_lock_wait_timeout, @@sql_mode, IS_USED_LOCK('smoketest')",
    "postgresql": "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('default_transaction_read_only'), current_setting('application_name'),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')",
}


def production() -> list[Any]:
    """Read, write and lock as a request does; return the settings of the session."""
    session = sql(SESSION[connection.vendor])
    with transaction.atomic():
        account = Account.objects.select_for_update().get(id=1)
        Account.objects.filter(id=account.id).update(name="changed by production")
        Account.objects.filter(id=account.id).update(name=account.name)
    connection.close()  # at the end of the request: it returns to the pool
    return session


@pytest.mark.parametrize("name", POOLS)
def test_pool__is_as_before_after_faulty_runs(
    backends: Backends, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Keep the numbers of connections, the sessions, and the work of production.

    The pool logs no problem after a timeout, such as SQLAlchemy's "Exception during reset".
    """
    pool = POOLS[name]
    reset()
    abandoned = LocallyAbandoned()
    with pooled(backends, pool) as backend:
        session, counts = production(), pool.counts()
        for _ in range(RUNS):
            run_suite(suite(Faulty, "pools", timeouts=(30, 30, 30, 0.3, 30)), abandoned, workers=2)
            report = run_suite(suite(FaultyReadOnly, "pools"), abandoned)
            assert [(r.outcome, r.message) for r in report.results] == [("passed", "")]
        assert pool.counts() == counts
        assert production() == session
        assert pool.counts() == counts
        assert changes(backend) == []
        released.set()
        wait_for(abandoned.count, lambda count: not count, what="the threads to end")
        assert production() == session
    problems = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert [record for record in problems if not record.name.startswith("smoketest")] == []


@pytest.mark.parametrize("name", POOLS)
def test_pool__is_not_created_by_smoke_tests(backends: Backends, name: str) -> None:
    """Leave it to production to open the connections of the pool, with its own parameters."""
    pool = POOLS[name]
    reset()
    with pooled(backends, pool):
        report = run_suite(suite(FaultyReadOnly, "pools"))
        assert [(r.outcome, r.message) for r in report.results] == [("passed", "")]
        connections["default"].close()
        assert "smoketest" not in map(str, production()[0])


@pytest.mark.xdist_group("postgresql")
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_pgbouncer__sessions_are_as_before_after_faulty_runs(
    backends: Backends, pool_mode: str
) -> None:
    """Leave no settings and locks in the sessions that production shares, whose number is 3."""
    backend = backends("postgresql")
    assert isinstance(backend, ServerBackend)
    reset()
    abandoned = LocallyAbandoned()
    with PgBouncer(backend.server, pool_mode=pool_mode, pool_size=3) as pooler:
        databases = backend.databases()
        databases["default"] |= {
            "PORT": str(pooler.port),
            "DISABLE_SERVER_SIDE_CURSORS": True,
            "OPTIONS": {"application_name": "production"},  # else that of the previous client
        }
        with backend.restore_on_error(), site(databases):
            session = production()
            for _ in range(RUNS):
                report = run_suite(suite(LocksSession, "pools"))
                assert outcomes(report) == ("passed", "passed")
                assert production() == session
                run_suite(suite(Faulty, "pools", timeouts=(30, 30, 30, 0.3, 30)), abandoned)
                assert production() == session
            released.set()
            wait_for(abandoned.count, lambda count: not count, what="the threads to end")
            assert production() == session
            assert changes(backend) == []
    assert_nothing_held(backend)
