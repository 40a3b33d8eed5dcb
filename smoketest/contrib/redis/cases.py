"""Test class for a Redis server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.template.defaultfilters import filesizeformat

from smoketest.case import SmokeTest, options, tag
from smoketest.contrib.redis.client import UnsupportedError, connect, get_address
from smoketest.contrib.redis.conf import RedisConf, conf
from smoketest.contrib.redis.targets import RedisServer

#: Seconds after which a key expires that could not be deleted.
EXPIRY = 30

_WRONG_LOGIN = "The user name or password is wrong"
_LOGIN_REQUIRED = "The server requires a password, but the settings contain none"
_LOADING = "The server has just started and is loading its data: wait until it is done"
_NO_PRIMARY = "The server is a replica without a connection to its primary"
_OUT_OF_MEMORY = (
    "The memory is full, and the maxmemory-policy does not allow evicting keys: delete keys, raise"
    " maxmemory, or set maxmemory-policy to allkeys-lru if the server is a cache"
)
_READ_ONLY = "The server is a read-only replica: change the setting to the primary"
_TIMEOUT = "The server does not respond: check the network and look for slow commands (SLOWLOG)"

#: Explanations by a part of the error message; the first match is used.
_ADVICE = {
    "WRONGPASS": _WRONG_LOGIN,
    "invalid password": _WRONG_LOGIN,
    "invalid username-password pair": _WRONG_LOGIN,
    "NOAUTH": _LOGIN_REQUIRED,
    "HELLO must be called": _LOGIN_REQUIRED,
    "Authentication required": _LOGIN_REQUIRED,
    "without any password configured": "The server has no password, but the settings contain one",
    "LOADING": _LOADING,
    "loading the dataset": _LOADING,
    "MASTERDOWN": _NO_PRIMARY,
    "Link with MASTER is down": _NO_PRIMARY,
    "MISCONF": "The server cannot save its data to disk and therefore refuses writes: check its"
    " log, and the free space and permissions of its directory",
    "OOM": _OUT_OF_MEMORY,
    "command not allowed when used memory": _OUT_OF_MEMORY,
    "READONLY": _READ_ONLY,
    "read only replica": _READ_ONLY,
    "NOREPLICAS": "The server has fewer connected replicas than min-replicas-to-write",
    "max number of clients": "The server has reached its connection limit: look for connection"
    " leaks with CLIENT LIST, or raise maxclients",
    "Connection refused": "The connection was refused: is the server running?",
    "Name or service not known": "The host name does not resolve: check the URL and DNS",
    "Timeout": _TIMEOUT,
    "timed out": _TIMEOUT,
}


class RedisTest(SmokeTest):
    """Tests of one Redis server."""

    server: ClassVar[RedisServer]
    databases = ()
    timeout = 10
    tags = frozenset({"redis"})

    @tag("readiness")
    def test_answers(self) -> None:
        """The Redis server accepts a connection with the site's password and answers PING."""
        with self._connected() as client:
            client.ping()

    def test_writes(self) -> None:
        """The Redis server stores, returns and deletes a key."""
        if self.server.is_replica:
            self.skipTest("the site only reads from this server")
        key, value = f"{conf.key_prefix}{secrets.token_hex(16)}", secrets.token_hex(8)
        with self._connected() as client:
            try:
                client.set(key, value, ex=EXPIRY, nx=True)
                found = client.get(key)
            finally:
                self._delete(client, key)
            if found != value:
                self.fail(
                    f"{self._describe(client)} did not return a key that was just written: is"
                    " there more than one server behind this address?"
                )

    @options(severity="warning")
    def test_memory(self) -> None:
        """The memory of the Redis server is not nearly full, so writes will not be refused."""
        memory = self._info("memory")
        used, policy = memory["used_memory"], memory.get("maxmemory_policy", "")
        limit, name = memory.get("maxmemory", 0), "maxmemory"
        if not limit:
            limit, name = memory.get("total_system_memory", 0), "the system memory"
        elif policy != "noeviction":
            return  # a server that evicts keys is expected to be full
        if limit and used > conf.memory_used_max * limit:
            self.fail(
                f"{self._describe()} uses {filesizeformat(used)}, {used / limit:.0%} of {name}"
                f" ({filesizeformat(limit)}). Delete keys, raise the limit, or change"
                f" {RedisConf.memory_used_max.name}, which is {conf.memory_used_max:g}."
            )

    @options(severity="warning")
    def test_replication(self) -> None:
        """A Redis server that is a replica is connected to its primary."""
        replication = self._info("replication")
        if replication.get("role") == "slave" and replication.get("master_link_status") != "up":
            since = replication.get("master_link_down_since_seconds", -1)
            lost = f"for {since} s" if since >= 0 else "since it started"
            self.fail(
                f"{self._describe()} is a replica that has had no link to its primary"
                f" {replication.get('master_host')}:{replication.get('master_port')} {lost}, so its"
                " data is stale. Check its log, and whether the primary is running."
            )

    @options(severity="warning")
    def test_saving(self) -> None:
        """The last attempt of the Redis server to save its data to disk succeeded."""
        persistence = self._info("persistence")
        broken = [
            name
            for name in (
                "rdb_last_bgsave_status",
                "aof_last_write_status",
                "aof_last_bgrewrite_status",
            )
            if persistence.get(name, "ok") != "ok"
        ]
        if broken:
            self.fail(
                f"{self._describe()} could not save its data ({', '.join(broken)}). Unsaved data"
                " is lost on a restart, and the server may refuse writes. Check its log, and the"
                " free space and permissions of its directory."
            )

    def _info(self, section: str) -> dict[str, Any]:
        with self._connected() as client:
            try:
                found: dict[str, Any] = client.info(section)
            except Exception as error:
                if "NOPERM" in str(error) or "no permissions" in str(error):
                    self.skipTest("the user has no permission for INFO")
                if "unknown command" in str(error):
                    self.skipTest("its provider has no INFO")
                raise
        return found

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield a client; if the connection or a command fails, fail the test with advice."""
        try:
            client = connect(self.server)
        except UnsupportedError as error:
            self.skipTest(str(error))
        except ValueError:
            raise self.failureException(
                f"{self.server.setting} is not the URL of a Redis server. Are special characters"
                " in its password percent-encoded, such as %2F for a slash?"
            ) from None  # the error contains parts of the URL
        try:
            yield client
        except AssertionError:
            raise
        except Exception as error:
            if not _is_client_error(error):
                raise
            raise self.failureException(
                f"{self._describe(client)}: {_get_advice(str(error), type(error).__name__)}"
            ) from None  # the traceback would show connection parameters
        finally:
            client.connection_pool.disconnect()

    def _describe(self, client: Any = None) -> str:
        found = get_address(client or connect(self.server))
        return f"Redis {self.server.name!r} ({self.server.setting}) at {found}"

    def _delete(self, client: Any, key: str) -> None:
        """Delete the key; ignore errors, since a failure of the write is more important."""
        with _suppressed(_is_client_error):
            client.delete(key)


@contextmanager
def _suppressed(is_harmless: Callable[[Exception], bool]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_harmless(error):
            raise


def _is_client_error(error: Exception) -> bool:
    """Return whether the client library or the network raised the error."""
    library = type(error).__module__.partition(".")[0]
    return library in {"redis", "valkey"} or isinstance(error, OSError)


def _get_advice(text: str, kind: str) -> str:
    if "NOPERM" in text or "no permissions" in text or "No permissions" in text:
        advice = (
            "The user lacks a permission: its ACL must allow PING, SELECT, SET, GET and DEL for the"
            f" keys ~{conf.key_prefix}* ({RedisConf.key_prefix.name})"
        )
    else:
        advice = next((advice for part, advice in _ADVICE.items() if part in text), "")
    return f"{advice}. {kind}: {text}" if advice else f"{kind}: {text}"
