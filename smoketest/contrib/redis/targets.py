"""Which Redis servers the settings of the site name, and with which parameters it connects.

Nothing connects here.
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

#: Packages whose cache backends have a client like that of django-redis.
_CACHE_PACKAGES = {"django_redis", "django_valkey"}
_CHANNEL_LAYERS = "channels_redis."
#: Where projects keep the addresses of Celery, by the namespace that its documentation proposes.
_CELERY = {"CELERY_BROKER_URL": "celery broker", "CELERY_RESULT_BACKEND": "celery results"}
#: Where those keep the parameters of TLS that do not stand in the address.
_CELERY_TLS = {
    "CELERY_BROKER_URL": "CELERY_BROKER_USE_SSL",
    "CELERY_RESULT_BACKEND": "CELERY_REDIS_BACKEND_USE_SSL",
}
_REDIS = ("redis://", "rediss://", "redis+socket://")


@dataclass(frozen=True, kw_only=True)
class Configured:
    """One server that the settings name."""

    name: str
    #: Where in the settings it stands.
    setting: str
    #: An address, parameters of a connection, or a function that gives the site's own client.
    origin: str | Mapping[str, Any] | Callable[[], Any]
    #: Whether it is there to be read alone.
    is_replica: bool = False


def find_servers() -> list[Configured]:
    """All but those that the site leaves out."""
    found = (*_of_setting(), *_of_caches(), *_of_channels(), *_of_celery())
    return [server for server in found if server.name not in conf.skip]


def _of_setting() -> Iterator[Configured]:
    for name, address in conf.urls.items():
        yield Configured(name=name, setting=RedisConf.urls.name, origin=address)


def _of_caches() -> Iterator[Configured]:
    """Each address of each cache; the first is written, the others are read."""
    for alias, entry in settings.CACHES.items():
        if not _is_redis_cache(entry["BACKEND"]):
            continue
        location: Any = entry.get("LOCATION", "")
        addresses = re.split("[;,]", location) if isinstance(location, str) else list(location)
        for number in range(len(addresses)):
            yield Configured(
                name=f"cache {alias}" + (f" replica {number}" if number else ""),
                setting=f"CACHES[{alias!r}]",
                origin=_client_of_cache(alias, number),
                is_replica=number > 0,
            )


def _is_redis_cache(backend: str) -> bool:
    try:
        found = import_string(backend)
    except ImportError:
        return False  # Django complains of it
    bases = getattr(found, "__mro__", ())
    return RedisCache in bases or any(
        base.__module__.partition(".")[0] in _CACHE_PACKAGES for base in bases
    )


def _client_of_cache(alias: str, number: int) -> Callable[[], Any]:
    """Gives the client that the cache uses for the address of this number."""

    def client() -> Any:
        cache: Any = caches[alias]
        if isinstance(cache, RedisCache):
            own: Any = cache._cache
            pool = own._pool_class.from_url(own._servers[number], **own._pool_options)
            return own._client(connection_pool=pool)
        return cache.client.connect(number)

    return client


def _of_channels() -> Iterator[Configured]:
    for alias, entry in getattr(settings, "CHANNEL_LAYERS", {}).items():
        if not entry.get("BACKEND", "").startswith(_CHANNEL_LAYERS):
            continue
        hosts = entry.get("CONFIG", {}).get("hosts") or ["redis://localhost:6379"]
        for number, host in enumerate(hosts, 1):
            yield Configured(
                name=f"channels {alias}" + (f" {number}" if number > 1 else ""),
                setting=f"CHANNEL_LAYERS[{alias!r}]",
                origin=_origin_of_host(host),
            )


def _origin_of_host(host: Any) -> str | Mapping[str, Any]:
    """What channels_redis takes: an address, a pair, or keywords with or without an address."""
    if isinstance(host, (tuple, list)):
        return {"host": host[0], "port": host[1]}
    return dict(host) if isinstance(host, Mapping) else str(host)


def _of_celery() -> Iterator[Configured]:
    for setting, name in _CELERY.items():
        address = getattr(settings, setting, None)
        if isinstance(address, str) and address.startswith(_REDIS):
            tls = getattr(settings, _CELERY_TLS[setting], None)
            for number, one in enumerate(address.split(";"), 1):
                yield Configured(
                    name=name + (f" {number}" if number > 1 else ""),
                    setting=setting,
                    origin=_origin_of_celery(one.replace("redis+socket://", "unix://"), tls),
                )


def _origin_of_celery(address: str, tls: Any) -> str | Mapping[str, Any]:
    """`tls` is True, or the parameters of TLS; Celery encrypts then, whatever the scheme."""
    if not tls or address.startswith("unix"):
        return address
    parameters = tls if isinstance(tls, Mapping) else {}
    return {"address": address.replace("redis://", "rediss://", 1), **parameters}
