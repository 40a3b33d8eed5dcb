"""Connections to Redis in the settings of task queues: django-rq, django-q2 and huey.

The packages are not imported; some of them exit the process if a setting is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from django.conf import settings

#: Keys of a queue of django-rq, and the corresponding parameters of redis-py.
_RQ_PARAMETERS = {
    "HOST": "host",
    "PORT": "port",
    "DB": "db",
    "USERNAME": "username",
    "PASSWORD": "password",
    "UNIX_SOCKET_PATH": "unix_socket_path",
    "SENTINELS": "sentinels",
    "MASTER_NAME": "master_name",
    "URL": "address",
    "SSL": "ssl",
}
#: Keys of ``Q_CLUSTER`` for other brokers, for the connection of a cache, and for tests.
_OTHER_BROKERS = ("broker_class", "iron_mq", "sqs", "orm", "mongo", "django_redis", "sync")
_HUEY_PARAMETERS = ("host", "port", "db", "username", "password")

#: URL, connection parameters of redis-py, or a function that returns a client of the site.
Origin = str | Mapping[str, Any] | Callable[[], Any]


class QueueConnection(NamedTuple):
    """A connection in the settings of a task queue."""

    name: str
    setting: str
    origin: Origin


def find_queues() -> Iterator[QueueConnection]:
    """Yield the connections, without those of caches, which are found in ``CACHES``."""
    yield from _from_django_rq()
    yield from _from_django_q()
    yield from _from_huey()


def _from_django_rq() -> Iterator[QueueConnection]:
    """Yield each connection once, with the name of the first queue that uses it."""
    seen: list[Mapping[str, Any]] = []
    queues: Mapping[str, Mapping[str, Any]] = getattr(settings, "RQ_QUEUES", None) or {}
    for name, queue in queues.items():
        if "USE_REDIS_CACHE" in queue and "URL" not in queue:
            continue
        parameters = {
            parameter: queue[key]
            for key, parameter in _RQ_PARAMETERS.items()
            if queue.get(key) is not None
        }
        if "address" in parameters:
            parameters = {key: parameters[key] for key in ("address", "db") if key in parameters}
        elif not parameters.get("ssl"):
            parameters.pop("ssl", None)
        is_tls = parameters.get("ssl") or str(parameters.get("address")).startswith("rediss:")
        if is_tls and "SSL_CERT_REQS" in queue:
            parameters["ssl_cert_reqs"] = queue["SSL_CERT_REQS"]
        parameters |= queue.get("REDIS_CLIENT_KWARGS") or {}
        if parameters not in seen:
            seen.append(parameters)
            yield QueueConnection(f"rq {name}", f"RQ_QUEUES[{name!r}]", parameters)


def _from_django_q() -> Iterator[QueueConnection]:
    cluster: Mapping[str, Any] | None = getattr(settings, "Q_CLUSTER", None)
    if cluster is not None and not any(map(cluster.get, _OTHER_BROKERS)):
        redis = cluster.get("redis") or {"host": "localhost"}
        origin: Origin = redis if isinstance(redis, str) else dict(redis)
        yield QueueConnection("django-q", "Q_CLUSTER", origin)


def _from_huey() -> Iterator[QueueConnection]:
    huey: Any = getattr(settings, "HUEY", None)
    if huey is None:
        return
    if not isinstance(huey, Mapping):  # an instance, whose storage may be in memory
        storage = getattr(huey, "storage", None)
        if hasattr(storage, "pool") and hasattr(storage, "conn"):
            yield QueueConnection("huey", "HUEY", lambda: huey.storage.conn)
        return
    is_immediate = huey.get("immediate", settings.DEBUG)
    if is_immediate or "Redis" not in huey.get("huey_class", "huey.RedisHuey"):
        return
    options = {**huey, **(huey.get("connection") or {})}
    if (pool := options.get("connection_pool")) is not None:
        yield QueueConnection("huey", "HUEY", lambda: _Client(pool))
    elif url := options.get("url"):
        yield QueueConnection("huey", "HUEY", str(url))
    else:
        parameters = {
            name: options[name] for name in _HUEY_PARAMETERS if options.get(name) is not None
        }
        yield QueueConnection("huey", "HUEY", {"host": "localhost", **parameters})


class _Client(NamedTuple):
    """The part of a client that is needed to connect."""

    connection_pool: Any
