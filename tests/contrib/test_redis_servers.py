"""Tests of smoketest.contrib.redis with real servers, which pass and fail for each reason."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from django.test import override_settings

from smoketest.results import Report, Result, Selection
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, options, outcomes, result_of
from tests.servers.processes import free_port, wait_for
from tests.servers.redis import Redis
from tests.servers.services import missing

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)

APP = "smoketest.contrib.redis"
PASSWORD = "correct-horse"
ALL_PASSED = dict.fromkeys(
    ("test_answers", "test_memory", "test_replication", "test_saving", "test_writes"), "passed"
)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{APP}.cases.RedisTest.timeout", 60)  # long enough for a slow machine
    if find_spec("redis") is None:
        missing("redis is not installed: pip install redis")


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """A server for tests that do not change it."""
    with Redis() as server:
        yield server


def run_site(selection: Selection = EVERYTHING, **settings: Any) -> Report:
    """Run the tests of a site with these settings, and check that no password is shown."""
    sys.modules.pop(f"{APP}.smoke", None)
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with override_settings(**{"INSTALLED_APPS": ["smoketest", APP], "CACHES": caches} | settings):
        suite = find(selection, options())
        assert suite.collection_errors == ()
        assert suite.classes
        report = run(suite, selection, options(), abandoned=LocallyAbandoned(), carried={})
    sys.modules.pop(f"{APP}.smoke", None)
    for result in report.results:
        assert PASSWORD not in result.message + result.traceback
    return report


def run_url(address: str, **settings: Any) -> Report:
    return run_site(SMOKETEST_REDIS_URLS={"main": address}, **settings)


def failed(report: Report, name: str) -> str:
    """Return the message of a failed test."""
    result: Result = result_of(report, name)
    assert result.outcome == "failed", result.traceback
    return result.message


@contextmanager
def no_remaining_keys(server: Redis) -> Iterator[None]:
    """The tests leave no keys."""
    before = server.talk("DBSIZE")
    yield
    assert server.talk("DBSIZE") == before


def test_passes__all_settings(redis: Redis) -> None:
    """Servers are found in all supported settings."""
    caches = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis.url,
        }
    }
    layers = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", redis.port)]},
        }
    }
    if find_spec("django_redis"):
        caches["other"] = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}
    redis.talk("SET", "of-the-site", "1")
    with no_remaining_keys(redis):
        report = run_site(
            CACHES=caches,
            CHANNEL_LAYERS=layers,
            CELERY_BROKER_URL=redis.url,
            SMOKETEST_REDIS_URLS={"main": redis.url},
        )
    assert {str(result.outcome) for result in report.results} == {"passed"}, report.results
    classes = {result.id.split(".")[-2] for result in report.results}
    assert classes == {
        "MainRedisTest",
        "CacheDefaultRedisTest",
        *(["CacheOtherRedisTest"] if "other" in caches else []),
        "ChannelsDefaultRedisTest",
        "CeleryBrokerRedisTest",
    }


def test_stopped() -> None:
    """A refused connection fails the test immediately."""
    report = run_url(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    assert set(outcomes(report).values()) == {"failed"}
    assert "The connection was refused" in failed(report, "test_answers")
    assert "Redis 'main' (SMOKETEST_REDIS_URLS) at 127.0.0.1:" in failed(report, "test_answers")
    assert report.duration < 20


def test_hanging() -> None:
    """A server that accepts connections and never responds fails the test in time."""
    with Redis() as server:
        server.talk("CLIENT", "PAUSE", "600000", "ALL")
        report = run_url(server.url, selection=Selection(tags=("readiness",)))
    assert "does not respond" in failed(report, "test_answers")
    assert result_of(report, "test_answers").duration < 20, (
        "must be less than the timeout of the test"
    )


def test_password() -> None:
    """The correct password passes; the messages for a wrong and a missing one differ."""
    with Redis(requirepass=PASSWORD) as server:
        assert outcomes(run_url(f"redis://:{PASSWORD}@{server.address}")) == ALL_PASSED
        wrong = run_url(f"redis://:not-{PASSWORD}@{server.address}")
        assert "The user name or password is wrong" in failed(wrong, "test_answers")
        assert "requires a password" in failed(run_url(server.url), "test_answers")


def test_acl() -> None:
    """Minimal permissions are sufficient; the message lists the required ones."""
    with Redis() as server:
        server.talk(
            "ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~smoketest:*", "+ping", "+set",
            "+get", "+del",
        )  # fmt: skip
        url = f"redis://limited:{PASSWORD}@{server.address}"
        assert outcomes(run_url(url)) == {
            "test_answers": "passed",
            "test_writes": "passed",
            "test_memory": "skipped",
            "test_replication": "skipped",
            "test_saving": "skipped",
        }
        other = run_url(url, SMOKETEST_REDIS_KEY_PREFIX="other:")
        assert "~other:*" in failed(other, "test_writes")


def test_memory_full() -> None:
    """A full server fails both tests; a full server that evicts keys passes."""
    with Redis(maxmemory_policy="noeviction") as server:
        for number in range(40):
            server.talk("SET", f"filler{number}", "x" * 40_000)
        server.talk("CONFIG", "SET", "maxmemory", "1500kb")
        with no_remaining_keys(server):
            report = run_url(server.url)
        assert outcomes(report) == {
            **ALL_PASSED, "test_memory": "failed", "test_writes": "failed"
        }  # fmt: skip
        assert "raise maxmemory" in failed(report, "test_writes")
        assert "of maxmemory" in failed(report, "test_memory")
        assert result_of(report, "test_memory").declaration.severity == "warning"
        server.talk("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert outcomes(run_url(server.url)) == ALL_PASSED


def test_replica__lost_primary() -> None:
    """Writes to a replica fail, and so does the test of a lost link to its primary."""
    with (
        Redis(repl_diskless_sync_delay="0") as primary,
        Redis(replicaof=f"127.0.0.1 {primary.port}") as replica,
    ):
        wait_for(
            lambda: replica.talk("INFO", "replication"),
            lambda text: "master_link_status:up" in text,
            what="the replica to follow",
        )
        report = run_url(replica.url)
        assert outcomes(report) == {**ALL_PASSED, "test_writes": "failed"}
        assert "change the setting to the primary" in failed(report, "test_writes")
        backend = "django.core.cache.backends.redis.RedisCache"
        caches = {"default": {"BACKEND": backend, "LOCATION": [primary.url, replica.url]}}
        both = run_site(CACHES=caches)
        assert result_of(both, "CacheDefaultRedisTest.test_writes").outcome == "passed"
        assert result_of(both, "CacheDefaultReplica1RedisTest.test_writes").outcome == "skipped"
        primary.stop()
        wait_for(
            lambda: replica.talk("INFO", "replication"),
            lambda text: "master_link_status:down" in text,
            what="the replica to lose its primary",
        )
        message = failed(run_url(replica.url), "test_replication")
        assert f"no link to its primary 127.0.0.1:{primary.port}" in message


def test_cannot_save() -> None:
    """The server cannot save its data, and therefore refuses writes."""
    with Redis(save="3600 1", enable_protected_configs="yes") as server:
        server.talk("CONFIG", "SET", "dir", "/proc")  # no file can be created there
        server.talk("SET", "of-the-site", "1")
        server.talk("BGSAVE")
        wait_for(
            lambda: server.talk("INFO", "persistence"),
            lambda text: "rdb_last_bgsave_status:err" in text,
            what="the save to fail",
        )
        report = run_url(server.url)
        server.kill9()  # a regular shutdown would try to save
    broken = dict.fromkeys(("test_answers", "test_saving", "test_writes"), "failed")
    assert outcomes(report) == ALL_PASSED | broken
    assert "cannot save its data to disk" in failed(report, "test_answers")
    assert "rdb_last_bgsave_status" in failed(report, "test_saving")
    assert "cannot save its data to disk" in failed(report, "test_writes")


def test_no_debug_messages(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The connections of the tests leave no messages of redis-py; those of the site do."""
    caplog.set_level("DEBUG")
    assert outcomes(run_url(redis.url)) == ALL_PASSED
    assert [record for record in caplog.records if record.name.startswith("redis")] == []
    logging.getLogger("redis.connection").debug("of the site")
    assert caplog.records[-1].getMessage() == "of the site"
