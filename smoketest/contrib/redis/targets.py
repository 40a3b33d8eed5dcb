"""Find the Redis servers in the settings of the site, and their connection parameters.

No connection is made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django.utils.module_loading import import_string

from smoketest.contrib.redis.conf import RedisConf, conf
from smoketest.contrib.redis.queues import Origin, find_queues

#: Packages whose cache backends have the client interface of django-redis.
_CACHE_PACKAGES = {"django_redis", "django_valkey"}
_CHANNEL_LAYERS = "channels_redis."
#: Settings with URLs, in the namespace that Celery's documentation recommends.
_CELERY = {"CELERY_BROKER_URL": "celery broker", "CELERY_RESULT_BACKEND": "celery results"}
#: Settings with the TLS parameters of these URLs.
_CELERY_TLS = {
    "CELERY_BROKER_URL": "CELERY_BROKER_USE_SSL",
    "CELERY_RESULT_BACKEND": "CELERY_REDIS_BACKEND_USE_SSL",
}
_REDIS = ("redis://", "rediss://", "redis+socket://")


@dataclass(frozen=True, kw_only=True)
class RedisServer:
    """A server in the settings of the site."""

    name: str
    #: Setting that contains the server.
    setting: str
    origin: Origin
    #: Whether the site only reads from the server.
    is_replica: bool = False


def find_servers() -> list[RedisServer]:
    """Return the servers that ``SMOKETEST_REDIS_SKIP`` does not exclude."""
    queues = (RedisServer(**queue._asdict()) for queue in find_queues())
    found = (*_from_setting(), *_from_caches(), *_from_channels(), *_from_celery(), *queues)
    return [server for server in found if server.name not in conf.skip]


def _from_setting() -> Iterator[RedisServer]:
    for name, address in conf.urls.items():
        yield RedisServer(name=name, setting=RedisConf.urls.name, origin=address)


def _from_caches() -> Iterator[RedisServer]:
    """Yield each address of each cache; Django writes to the first and reads from the others."""
    for alias, entry in settings.CACHES.items():
        if not _is_redis_cache(entry["BACKEND"]):
            continue
        location: Any = entry.get("LOCATION", "")
        addresses = re.split("[;,]", location) if isinstance(location, str) else list(location)
        for number in range(len(addresses)):
            yield RedisServer(
                name=f"cache {alias}" + (f" replica {number}" if number else ""),
                setting=f"CACHES[{alias!r}]",
                origin=_get_cache_client(alias, number),
                is_replica=number > 0,
            )


def _is_redis_cache(backend: str) -> bool:
    try:
        found = import_string(backend)
    except ImportError:
        return False  # reported by Django
    bases = getattr(found, "__mro__", ())
    return RedisCache in bases or any(
        base.__module__.partition(".")[0] in _CACHE_PACKAGES for base in bases
    )


def _get_cache_client(alias: str, number: int) -> Callable[[], Any]:
    """Return a function that returns the client of the cache for an address."""

    def client() -> Any:
        cache: Any = caches[alias]
        if isinstance(cache, RedisCache):
            own: Any = cache._cache
            pool = own._pool_class.from_url(own._servers[number], **own._pool_options)
            return own._client(connection_pool=pool)
        return cache.client.connect(number)

    return client


def _from_channels() -> Iterator[RedisServer]:
    for alias, entry in getattr(settings, "CHANNEL_LAYERS", {}).items():
        if not entry.get("BACKEND", "").startswith(_CHANNEL_LAYERS):
            continue
        hosts = entry.get("CONFIG", {}).get("hosts") or ["redis://localhost:6379"]
        for number, host in enumerate(hosts, 1):
            yield RedisServer(
                name=f"channels {alias}" + (f" {number}" if number > 1 else ""),
                setting=f"CHANNEL_LAYERS[{alias!r}]",
                origin=_get_host_origin(host),
            )


def _get_host_origin(host: Any) -> str | Mapping[str, Any]:
    """Convert a host of channels_redis: a URL, a (host, port) pair or keyword arguments."""
    if isinstance(host, (tuple, list)):
        return {"host": host[0], "port": host[1]}
    return dict(host) if isinstance(host, Mapping) else str(host)


def _from_celery() -> Iterator[RedisServer]:
    for setting, name in _CELERY.items():
        address = getattr(settings, setting, None)
        if isinstance(address, str) and address.startswith(_REDIS):
            tls = getattr(settings, _CELERY_TLS[setting], None)
            for number, one in enumerate(address.split(";"), 1):
                yield RedisServer(
                    name=name + (f" {number}" if number > 1 else ""),
                    setting=setting,
                    origin=_get_celery_origin(one.replace("redis+socket://", "unix://"), tls),
                )


def _get_celery_origin(address: str, tls: Any) -> str | Mapping[str, Any]:
    """Add TLS to a URL. `tls` is True or TLS parameters; with either, Celery uses rediss://."""
    if not tls or address.startswith("unix"):
        return address
    parameters = tls if isinstance(tls, Mapping) else {}
    return {"address": address.replace("redis://", "rediss://", 1), **parameters}
