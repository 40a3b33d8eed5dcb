"""Tests of smoketest.contrib.redis without a server: finding servers, and system checks."""

from __future__ import annotations

import ssl
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from smoketest.contrib.essentials import targets
from smoketest.contrib.redis.client import UnsupportedError, connect, get_address
from smoketest.contrib.redis.targets import RedisServer, find_servers
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, options
from tests.servers.services import missing

APP = "smoketest.contrib.redis"
BUILTIN = "django.core.cache.backends.redis.RedisCache"


@pytest.fixture
def library() -> None:
    """Skip tests that create clients if redis-py is missing."""
    if find_spec("redis") is None:
        missing("redis is not installed: pip install redis")


def found(**settings: Any) -> dict[str, RedisServer]:
    with override_settings(**settings):
        return {server.name: server for server in find_servers()}


def cache(**entry: Any) -> dict[str, Any]:
    return {"CACHES": {"default": {"BACKEND": BUILTIN, **entry}}}


def keywords(server: RedisServer) -> dict[str, Any]:
    """Return the connection parameters of a server that the settings can set."""
    names = {"host", "port", "db", "username", "password", "path", "ssl_cert_reqs"}
    made = connect(server).connection_pool.connection_kwargs
    return {name: made[name] for name in made if name in names}


def test_caches__one_server_per_address() -> None:
    """Other cache backends are ignored; addresses after the first are replicas."""
    servers = found(
        CACHES={
            "default": {"BACKEND": BUILTIN, "LOCATION": "redis://a:1;redis://b:2,redis://c:3"},
            "listed": {"BACKEND": BUILTIN, "LOCATION": ["redis://d", "redis://e"]},
            "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "gone": {"BACKEND": "nothing.of.TheKind"},
        }
    )
    assert {name: server.is_replica for name, server in servers.items()} == {
        "cache default": False,
        "cache default replica 1": True,
        "cache default replica 2": True,
        "cache listed": False,
        "cache listed replica 1": True,
    }


@pytest.mark.usefixtures("library")
def test_caches__connection_options() -> None:
    """The client uses the options of the cache, with Django's backend and django-redis."""
    location = "redis://user:p%40ss@a:1/2;redis://b:2"
    options = {"OPTIONS": {"db": 5}}
    with override_settings(**cache(LOCATION=location, **options)):
        first, second = find_servers()
        assert keywords(first) == {
            "host": "a", "port": 1, "db": 2, "username": "user", "password": "p@ss"
        }  # fmt: skip
        assert keywords(second) == {"host": "b", "port": 2, "db": 5}
        assert get_address(connect(first)) == "a:1"
    if find_spec("django_redis") is None:
        missing("django-redis is not installed: pip install django-redis")
    entry = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://a:1/2",
        "OPTIONS": {"PASSWORD": "p@ss", "SOCKET_TIMEOUT": 99},
    }
    with override_settings(CACHES={"default": entry}):
        (server,) = find_servers()
        assert keywords(server) == {"host": "a", "port": 1, "db": 2, "password": "p@ss"}
        assert connect(server).connection_pool.connection_kwargs["socket_timeout"] < 5


@pytest.mark.usefixtures("library")
def test_channels__host_formats() -> None:
    """All formats of channels_redis are supported, even if it is not installed."""
    servers = found(
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "channels_redis.core.RedisChannelLayer",
                "CONFIG": {
                    "hosts": [
                        ("a", 1),
                        "redis://:pass@b:2/3",
                        {"address": "redis://c:3", "password": "other"},
                        {"host": "d", "port": 4},
                        {"sentinels": [("e", 5)], "master_name": "m"},
                    ]
                },
            },
            "plain": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"},
            "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        }
    )
    with pytest.raises(UnsupportedError, match=r"CHANNEL_LAYERS\['default'\].*REDIS_URLS"):
        connect(servers.pop("channels default 5"))
    assert {name: keywords(server) for name, server in servers.items()} == {
        "channels default": {"host": "a", "port": 1},
        "channels default 2": {"host": "b", "port": 2, "db": 3, "password": "pass"},
        "channels default 3": {"host": "c", "port": 3, "password": "other"},
        "channels default 4": {"host": "d", "port": 4},
        "channels plain": {"host": "localhost", "port": 6379},
    }


@pytest.mark.usefixtures("library")
def test_celery__broker_urls() -> None:
    """Each URL of a broker is a server, and URLs in Celery's notation are converted."""
    servers = found(
        CELERY_BROKER_URL="redis://a/1;rediss://b:2/0?ssl_cert_reqs=CERT_NONE",
        CELERY_RESULT_BACKEND="redis+socket:///run/redis.sock",
    )
    assert {name: keywords(server) for name, server in servers.items()} == {
        "celery broker": {"host": "a", "db": 1},
        "celery broker 2": {"host": "b", "port": 2, "db": 0, "ssl_cert_reqs": "none"},
        "celery results": {"path": "/run/redis.sock"},
    }
    assert found(CELERY_BROKER_URL="amqp://a", CELERY_RESULT_BACKEND="django-db") == {}


@pytest.mark.usefixtures("library")
def test_celery__tls_parameters() -> None:
    """TLS parameters in other settings are used; Celery then enables TLS for any scheme."""
    servers = found(
        CELERY_BROKER_URL="redis://a:1;rediss://b:2",
        CELERY_BROKER_USE_SSL={"ssl_cert_reqs": ssl.CERT_NONE},
        CELERY_RESULT_BACKEND="redis://c",
        CELERY_REDIS_BACKEND_USE_SSL=True,
    )
    kinds = [connect(s).connection_pool.connection_class.__name__ for s in servers.values()]
    assert kinds == ["SSLConnection"] * 3
    assert keywords(servers["celery broker"]) == {
        "host": "a", "port": 1, "ssl_cert_reqs": ssl.CERT_NONE
    }  # fmt: skip
    assert "ssl_cert_reqs" not in keywords(servers["celery results"])


@pytest.mark.usefixtures("library")
def test_invalid_address(tmp_path: Path) -> None:
    """The message says what may be wrong, without parts of the password."""
    sys.modules.pop(f"{APP}.smoke", None)
    with override_settings(
        INSTALLED_APPS=["smoketest", APP],
        SMOKETEST_STATE_DIR=str(tmp_path),
        **cache(LOCATION="redis://:pass-in/pass-in@127.0.0.1:1/0"),
    ):
        suite = find(EVERYTHING, options())
        report = run(suite, EVERYTHING, options(), abandoned=LocallyAbandoned(), carried={})
    sys.modules.pop(f"{APP}.smoke")
    assert {str(result.outcome) for result in report.results} == {"failed"}
    for result in report.results:
        assert "is not the URL of a Redis server" in result.message
        assert "%2F" in result.message
        assert "pass-in" not in f"{result.message}{result.traceback}"


@pytest.mark.usefixtures("library")
def test_setting__added_and_skipped_servers() -> None:
    """URLs of valkey have another scheme."""
    urls = {"sessions": "valkey://a:1/2", "old": "redis://b"}
    servers = found(
        SMOKETEST_REDIS_URLS=urls,
        SMOKETEST_REDIS_SKIP=["old", "celery broker"],
        CELERY_BROKER_URL="redis://c",
    )
    assert {name: keywords(server) for name, server in servers.items()} == {
        "sessions": {"host": "a", "port": 1, "db": 2}
    }


RQ_QUEUES = {
    "default": {"HOST": "a", "PORT": 1, "DB": 2, "PASSWORD": "pass", "DEFAULT_TIMEOUT": 360},
    "high": {"HOST": "a", "PORT": 1, "DB": 2, "PASSWORD": "pass"},
    "url": {"URL": "redis://user:pass@b:2/3", "DEFAULT_TIMEOUT": 500},
    "tls": {"HOST": "c", "PORT": 3, "SSL": True, "SSL_CERT_REQS": "none"},
    "socket": {"UNIX_SOCKET_PATH": "/run/redis.sock", "DB": 1},
    "cache": {"USE_REDIS_CACHE": "default"},
    "sentinel": {"SENTINELS": [("d", 26379)], "MASTER_NAME": "m", "DB": 0},
}


@pytest.mark.usefixtures("library")
def test_django_rq__queues() -> None:
    """Queues with the same connection are one server, and the connection of a cache is its own."""
    servers = found(RQ_QUEUES=RQ_QUEUES)
    with pytest.raises(UnsupportedError, match=r"RQ_QUEUES\['sentinel'\].*REDIS_URLS"):
        connect(servers.pop("rq sentinel"))
    assert {name: keywords(server) for name, server in servers.items()} == {
        "rq default": {"host": "a", "port": 1, "db": 2, "password": "pass"},
        "rq url": {"host": "b", "port": 2, "db": 3, "username": "user", "password": "pass"},
        "rq tls": {"host": "c", "port": 3, "ssl_cert_reqs": "none"},
        "rq socket": {"path": "/run/redis.sock", "db": 1},
    }
    pool = connect(servers["rq tls"]).connection_pool
    assert pool.connection_class.__name__ == "SSLConnection"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"redis": {"host": "a", "port": 1, "db": 2}}, {"host": "a", "port": 1, "db": 2}),
        ({"redis": "redis://:pass@a:1"}, {"host": "a", "port": 1, "password": "pass"}),
        ({"redis": {"unix_socket_path": "/run/redis.sock"}}, {"path": "/run/redis.sock"}),
        ({"name": "shop"}, {"host": "localhost"}),
        ({"orm": "default"}, None),
        ({"sqs": {"aws_region": "eu"}, "redis": {"host": "a"}}, None),
        ({"django_redis": "default"}, None),
        ({"redis": {"host": "a"}, "sync": True}, None),
    ],
)
def test_django_q__cluster(cluster: dict[str, Any], expected: dict[str, Any] | None) -> None:
    servers = found(Q_CLUSTER=cluster)
    assert [keywords(server) for server in servers.values()] == ([expected] if expected else [])


class Storage:
    """The parts of a storage of huey that a client is taken from."""

    def __init__(self) -> None:
        self.conn = import_module("redis").Redis(host="a", port=1)
        self.pool = self.conn.connection_pool


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("huey", "expected"),
    [
        ({"name": "shop"}, ("localhost", None)),
        ({"connection": {"host": "a", "port": 1, "read_timeout": 0}}, ("a", 1)),
        ({"url": "redis://a:1/0"}, ("a", 1)),
        ({"huey_class": "huey.PriorityRedisHuey", "connection": {"url": "redis://a:1"}}, ("a", 1)),
        ({"huey_class": "huey.SqliteHuey"}, None),
        ({"connection": {"host": "a"}, "immediate": True}, None),
        (SimpleNamespace(storage=object()), None),
        ("instance", ("a", 1)),
        ("pool", ("a", 1)),
    ],
)
def test_huey(huey: Any, expected: tuple[str, int | None] | None) -> None:
    if huey == "instance":
        huey = SimpleNamespace(storage=Storage())
    elif huey == "pool":
        huey = {"connection": {"connection_pool": Storage().pool}}
    servers = found(HUEY=huey)
    assert list(servers) == (["huey"] if expected else [])
    for server in servers.values():
        made = keywords(server)
        assert (made["host"], made.get("port")) == expected


def test_task_queues__host_names() -> None:
    """The host names are resolved by the essentials, without those of services of Sentinel."""
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer"}
    hosts = [("e", 1), "redis://:pass@f:2/3", {"address": "redis://g"}, {"host": "h"}]
    with override_settings(
        RQ_QUEUES=RQ_QUEUES,
        Q_CLUSTER={"redis": "redis://u:pass@i:1"},
        HUEY={"connection": {"host": "j"}},
        CHANNEL_LAYERS={
            "default": {**layer, "CONFIG": {"hosts": hosts}},
            "sentinel": {
                **layer,
                "CONFIG": {"hosts": [{"sentinels": [("k", 1)], "master_name": "mymaster"}]},
            },
            "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        },
    ):
        assert "".join(targets.hosts()) == "abcdijefghk"


def ids(**settings: Any) -> list[str | None]:
    with override_settings(INSTALLED_APPS=["smoketest", APP], **settings):
        found = [message.id for message in run_checks(tags=["smoketest"]) if message.id]
    return [name for name in found if name[len("smoketest.") + 1 :].startswith("1")]


def test_system_checks() -> None:
    """Each invalid value has its own error, which does not contain the password."""
    named = {"SMOKETEST_REDIS_URLS": {"one": "redis://host"}}
    assert ids() == ["smoketest.W161"]
    assert ids(**named) == []
    assert ids(SMOKETEST_REDIS_SKIP=["cache default"]) == []
    wrong: Any
    for wrong in (["redis://h"], {"one": "http://h"}, {"": "redis://h"}, {1: "redis://h"}):
        assert ids(SMOKETEST_REDIS_URLS=wrong) == ["smoketest.E161"]
    for wrong in ("cache default", [1], None):
        assert ids(**named, SMOKETEST_REDIS_SKIP=wrong) == ["smoketest.E162"]
    for wrong in ("", None, 5):
        assert ids(**named, SMOKETEST_REDIS_KEY_PREFIX=wrong) == ["smoketest.E163"]
    for wrong in (0, 1.1, True, "0.5"):
        assert ids(**named, SMOKETEST_REDIS_MEMORY_USED_MAX=wrong) == ["smoketest.E164"]


def test_system_check__missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package to install."""
    monkeypatch.setattr("smoketest.contrib.redis.checks.find_spec", lambda _: None)
    assert ids() == ["smoketest.E165"]


def test_startup__does_not_import_client() -> None:
    """The app does not import the client library before discovery."""
    code = (
        "import sys, django\n"
        "from django.conf import settings\n"
        f"settings.configure(INSTALLED_APPS=['smoketest', {APP!r}])\n"
        "django.setup()\n"
        "assert not {'redis', 'valkey'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
