"""A client of one's own with the parameters of the site's, which never waits for long."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from smoketest.contrib.redis.targets import Configured

#: Seconds to connect, and to wait for an answer. A test asks a few times.
PATIENCE = 2.0


class UnsupportedError(Exception):
    """How the site finds this server is not known here; the message says what to do."""


def connect(server: Configured) -> Any:
    """A client with a single connection, which is opened by its first command."""
    library, connection_class, parameters = _parameters(server)
    retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
    parameters |= {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": retry,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "decode_responses": True,
    }
    pool = library.ConnectionPool(
        connection_class=connection_class, max_connections=1, **parameters
    )
    return library.Redis(connection_pool=pool)


def _parameters(server: Configured) -> tuple[Any, Any, dict[str, Any]]:
    """The library, the class of its connections, and the keywords for one."""
    if callable(server.origin):
        pool = getattr(server.origin(), "connection_pool", None)
        if pool is None or hasattr(pool, "get_master_address"):
            raise UnsupportedError(
                f"{server.setting} finds its servers by a sentinel, cluster or shards: put them"
                " into SMOKETEST_REDIS_URLS"
            )
        name = type(pool).__module__.partition(".")[0]
        library = import_module(name if name in {"redis", "valkey"} else _installed())
        return library, pool.connection_class, dict(pool.connection_kwargs)
    library = import_module(_installed())
    if isinstance(server.origin, Mapping):
        parameters = dict(server.origin)
        if "master_name" in parameters or "sentinels" in parameters:
            raise UnsupportedError(
                f"{server.setting} finds its servers by a sentinel: put them into"
                " SMOKETEST_REDIS_URLS"
            )
        address = parameters.pop("address", None)
        if address is None:
            return library, library.Connection, parameters
    else:
        address, parameters = server.origin, {}
    pool = library.ConnectionPool.from_url(_address(library, address), **parameters)
    return library, pool.connection_class, dict(pool.connection_kwargs)


def _address(library: Any, address: str) -> str:
    """In the scheme that the library knows."""
    scheme, separator, rest = address.partition("://")
    other, own = ("valkey", "redis") if library.__name__ == "redis" else ("redis", "valkey")
    # Celery writes CERT_NONE where the libraries want none.
    return (
        scheme.replace(other, own)
        + separator
        + rest.replace("=CERT_", "=")
        .replace("=NONE", "=none")
        .replace("=REQUIRED", "=required")
        .replace("=OPTIONAL", "=optional")
    )


def _installed() -> str:
    return next((name for name in ("redis", "valkey") if find_spec(name)), "redis")


def place(client: Any) -> str:
    """Where the server is, without user and password."""
    parameters = client.connection_pool.connection_kwargs
    if path := parameters.get("path"):
        return str(path)
    return f"{parameters.get('host', 'localhost')}:{parameters.get('port', 6379)}"
