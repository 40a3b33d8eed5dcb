"""Connect to Redis with the parameters of the site, but with short timeouts and no retries."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from smoketest.contrib.logs import hide_debug_messages_of_redis
from smoketest.contrib.redis.targets import RedisServer

#: Timeout in seconds for connecting, and for each reply.
TIMEOUT = 2.0

hide_debug_messages_of_redis()


class UnsupportedError(Exception):
    """The way the site discovers this server is not supported; the message says what to do."""


def connect(server: RedisServer) -> Any:
    """Return a client with a single connection, which its first command opens."""
    library, connection_class, parameters = _parameters(server)
    retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
    parameters |= {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
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


def _parameters(server: RedisServer) -> tuple[Any, Any, dict[str, Any]]:
    """Return the client library, its connection class and the keyword arguments of a connection."""
    if callable(server.origin):
        pool = getattr(server.origin(), "connection_pool", None)
        if pool is None or hasattr(pool, "get_master_address"):
            raise UnsupportedError(
                f"{server.setting} uses Sentinel, Cluster or sharding: add its servers to"
                " SMOKETEST_REDIS_URLS"
            )
        name = type(pool).__module__.partition(".")[0]
        library = import_module(name if name in {"redis", "valkey"} else _get_installed_library())
        return library, pool.connection_class, dict(pool.connection_kwargs)
    library = import_module(_get_installed_library())
    if isinstance(server.origin, Mapping):
        parameters = dict(server.origin)
        if "master_name" in parameters or "sentinels" in parameters:
            raise UnsupportedError(
                f"{server.setting} uses Sentinel: add its servers to SMOKETEST_REDIS_URLS"
            )
        address = parameters.pop("address", None)
        if address is None:
            return library, *_get_connection(library, parameters)
    else:
        address, parameters = server.origin, {}
    pool = library.ConnectionPool.from_url(_address(library, address), **parameters)
    return library, pool.connection_class, dict(pool.connection_kwargs)


def _get_connection(library: Any, parameters: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the connection class and its arguments for the arguments of a client."""
    if path := parameters.pop("unix_socket_path", None):
        others = {name: parameters[name] for name in parameters if name not in {"host", "port"}}
        return library.UnixDomainSocketConnection, {**others, "path": path}
    is_tls = parameters.pop("ssl", False)
    return library.SSLConnection if is_tls else library.Connection, parameters


def _address(library: Any, address: str) -> str:
    """Return the URL with the scheme and TLS parameters that the library accepts."""
    scheme, separator, rest = address.partition("://")
    other, own = ("valkey", "redis") if library.__name__ == "redis" else ("redis", "valkey")
    # Celery accepts CERT_NONE, the libraries only none.
    return (
        scheme.replace(other, own)
        + separator
        + rest.replace("=CERT_", "=")
        .replace("=NONE", "=none")
        .replace("=REQUIRED", "=required")
        .replace("=OPTIONAL", "=optional")
    )


def _get_installed_library() -> str:
    return next((name for name in ("redis", "valkey") if find_spec(name)), "redis")


def get_address(client: Any) -> str:
    """Return the address of the server without credentials."""
    parameters = client.connection_pool.connection_kwargs
    if path := parameters.get("path"):
        return str(path)
    return f"{parameters.get('host', 'localhost')}:{parameters.get('port', 6379)}"
