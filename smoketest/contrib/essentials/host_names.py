"""Extract host names from the values of settings, where the format of a value is documented.

A value that is not a host name, or has an unknown format, is left out. Credentials and other parts
of a value are never returned, because host names become part of test ids.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Host names that are not resolved by DNS.
_LOCAL = frozenset({"localhost", "localhost.localdomain"})
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
#: ``scheme://user:password@host:port,host:port/path?options``
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#]*@)?(?P<hosts>[^/?#]*)")
#: Schemes whose URLs contain host names. Those with "+srv" contain the name of an SRV record.
_SCHEMES = frozenset({
    "memcached", "mongodb", "redis", "rediss", "valkey", "valkeys",
})  # fmt: skip


def in_database(engine: str, host: str) -> Iterator[str]:
    """Yield the host names in the HOST of a database.

    PostgreSQL takes a list of hosts (https://www.postgresql.org/docs/current/libpq-connect.html),
    SQL Server takes ``[tcp:]host[\\instance][,port]``, and MongoDB a connection URI.
    """
    engine = engine.lower()
    if "mongo" in engine or "djongo" in engine:
        yield from in_url(host) if "://" in host else _valid(host.split(","))
    elif any(name in engine for name in ("mssql", "sql_server", "sqlserver")):
        protocol, colon, rest = host.rpartition(":")
        if not colon or protocol.lower() == "tcp":
            yield from _valid([re.split(r"[\\,]", rest)[0]])
    elif any(name in engine for name in ("postg", "cockroach", "psql")):
        yield from _valid(host.split(","))
    elif any(name in engine for name in ("mysql", "mariadb", "oracle")):
        yield from _valid([host])


def in_cache(backend: str, location: object, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the host names in the LOCATION of a cache.

    With Redis Sentinel, the LOCATION contains the name of a service, and the sentinels are options.
    """
    if sentinels := options.get("SENTINELS"):
        pairs = sentinels if isinstance(sentinels, (list, tuple)) else ()
        yield from _valid(
            str(pair[0]) for pair in pairs if isinstance(pair, (list, tuple)) and pair
        )
        return
    if (
        "sentinel"
        in f"{options.get('CLIENT_CLASS')} {options.get('CONNECTION_POOL_CLASS')}".lower()
    ):
        return
    is_memcached = re.search(r"(?<!loc)memcache", backend, re.IGNORECASE) is not None
    if isinstance(location, (list, tuple)):
        servers = [str(server) for server in location]
    else:
        servers = re.split("[;,]", str(location or ""))
    for server in servers:
        if "://" in server:
            yield from in_url(server)
        elif is_memcached:
            yield from _valid([_without_port(server)])


def in_mailer(host: object) -> Iterator[str]:
    """Yield the host of a mail server, if it is set."""
    yield from _valid([str(host or "")])


def in_connection(connection: object) -> Iterator[str]:
    """Yield the host names of a connection: a URL, a (host, port) pair or keyword arguments."""
    if isinstance(connection, str):
        yield from in_url(connection)
    elif isinstance(connection, (list, tuple)) and connection:
        yield from _valid([str(connection[0])])
    elif isinstance(connection, Mapping):
        if sentinels := connection.get("sentinels"):
            yield from in_cache("", None, {"SENTINELS": sentinels})
        elif address := connection.get("address"):
            yield from in_url(str(address))
        elif "unix_socket_path" not in connection:
            yield from _valid([str(connection.get("host") or "")])


def in_url(url: str) -> Iterator[str]:
    """Yield the host names in the URL of a service."""
    match = _URL.match(url)
    # With an "@" after the hosts, a part of the password was taken for the hosts.
    if match and match["scheme"].lower() in _SCHEMES and "@" not in url[match.end() :]:
        yield from _valid(map(_without_port, match["hosts"].split(",")))


def _without_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdecimal() else address


def _valid(hosts: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for host in (one.strip() for one in hosts):
        is_name = _HOST_NAME.fullmatch(host) and len(host) <= 253
        if is_name and host.lower() not in _LOCAL and not _is_address(host):
            yield host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
