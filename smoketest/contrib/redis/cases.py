"""What is tested of each Redis server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.template.defaultfilters import filesizeformat

from smoketest.case import SmokeTest, options, tag
from smoketest.contrib.redis.client import UnsupportedError, connect, place
from smoketest.contrib.redis.conf import RedisConf, conf
from smoketest.contrib.redis.targets import Configured

#: Seconds after which a key is gone that a test could not delete.
EXPIRY = 30

#: What to do about an error, by what its text has in it. The server's own codes come first in it.
_ADVICE = {
    "WRONGPASS": "The password or the user is wrong",
    "invalid password": "The password or the user is wrong",
    "invalid username-password pair": "The password or the user is wrong",
    "NOAUTH": "It wants a password, and the settings have none",
    "HELLO must be called": "It wants a password, and the settings have none",
    "Authentication required": "It wants a password, and the settings have none",
    "without any password configured": "It has no password, and the settings have one",
    "LOADING": "It has just started and reads its data: wait",
    "loading the dataset": "It has just started and reads its data: wait",
    "MASTERDOWN": "It is a replica that has lost its primary, and may not answer",
    "Link with MASTER is down": "It is a replica that has lost its primary, and may not answer",
    "MISCONF": "It cannot save its data to disk, and so refuses writes: look at its log, and at the"
    " free space and the rights of its folder",
    "OOM": "Its memory is full, and its maxmemory-policy does not let it evict keys: delete keys,"
    " raise maxmemory, or for a cache set maxmemory-policy to allkeys-lru",
    "command not allowed when used memory": "Its memory is full, and its maxmemory-policy does not"
    " let it evict keys: delete keys, raise maxmemory, or for a cache set maxmemory-policy to"
    " allkeys-lru",
    "READONLY": "It is a read-only replica: let the setting name the primary",
    "read only replica": "It is a read-only replica: let the setting name the primary",
    "NOREPLICAS": "It has too few replicas in reach (min-replicas-to-write)",
    "max number of clients": "It has no connection left: look for clients that leak them by CLIENT"
    " LIST, or raise maxclients",
    "Connection refused": "Nothing listens there: is it running?",
    "Name or service not known": "Its name is not known: look at the address and at DNS",
    "Timeout": "It does not answer: is it reachable, and is it busy with a slow command (SLOWLOG)?",
    "timed out": "It does not answer: is it reachable, and is it busy with a slow command"
    " (SLOWLOG)?",
}


class RedisTest(SmokeTest):
    """One Redis server; `server` says which."""

    server: ClassVar[Configured]
    databases = ()
    timeout = 10
    tags = frozenset({"redis"})

    @tag("readiness")
    def test_answers(self) -> None:
        """The Redis server takes a connection with the site's password, and answers PING."""
        with self._connected() as client:
            client.ping()

    def test_writes(self) -> None:
        """The Redis server takes a key that expires, gives it back, and deletes it."""
        if self.server.is_replica:
            self.skipTest("the site only reads this one")
        key, value = f"{conf.key_prefix}{secrets.token_hex(16)}", secrets.token_hex(8)
        with self._connected() as client:
            try:
                client.set(key, value, ex=EXPIRY, nx=True)
                found = client.get(key)
            finally:
                self._delete(client, key)
            if found != value:
                self.fail(
                    f"{self._where(client)} took a key, and a moment later did not have it:"
                    " is there more than one server behind this address?"
                )

    @options(severity="warning")
    def test_memory(self) -> None:
        """The Redis server has memory left before it refuses writes."""
        memory = self._info("memory")
        used, policy = memory["used_memory"], memory.get("maxmemory_policy", "")
        limit, name = memory.get("maxmemory", 0), "maxmemory"
        if not limit:
            limit, name = memory.get("total_system_memory", 0), "the machine's memory"
        elif policy != "noeviction":
            return  # it is meant to be full, and evicts keys
        if limit and used > conf.memory_used_max * limit:
            self.fail(
                f"{self._where()} uses {filesizeformat(used)}, {used / limit:.0%} of {name}"
                f" ({filesizeformat(limit)}). Delete keys, or raise the limit;"
                f" {RedisConf.memory_used_max.name} says from when on this is told."
            )

    @options(severity="warning")
    def test_replication(self) -> None:
        """If the Redis server is a replica, its link to the primary is up."""
        replication = self._info("replication")
        if replication.get("role") == "slave" and replication.get("master_link_status") != "up":
            since = replication.get("master_link_down_since_seconds", -1)
            lost = f"for {since} s" if since >= 0 else "since it started"
            self.fail(
                f"{self._where()} is a replica that has had no link to its primary"
                f" {replication.get('master_host')}:{replication.get('master_port')} {lost}:"
                " what it answers is old. Look at its log, and whether the primary is up."
            )

    @options(severity="warning")
    def test_saving(self) -> None:
        """The Redis server could save its data to disk when it last tried."""
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
                f"{self._where()} could not save its data ({', '.join(broken)}); what is not on"
                " disk is lost when it restarts, and it may refuse writes. Look at its log, and at"
                " the free space and the rights of its folder."
            )

    def _info(self, section: str) -> dict[str, Any]:
        with self._connected() as client:
            try:
                found: dict[str, Any] = client.info(section)
            except Exception as error:
                if "NOPERM" in str(error) or "no permissions" in str(error):
                    self.skipTest("its user may not ask for INFO")
                if "unknown command" in str(error):
                    self.skipTest("its provider has no INFO")
                raise
        return found

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A client of its own; what goes wrong inside fails the test with advice."""
        try:
            client = connect(self.server)
        except UnsupportedError as error:
            self.skipTest(str(error))
        except ValueError:
            raise self.failureException(
                f"{self.server.setting} is no address of a Redis server. Has its password"
                " characters that have to be written as %2F, %23 or the like?"
            ) from None  # the error holds parts of it
        try:
            yield client
        except AssertionError:
            raise
        except Exception as error:
            if not _is_of_client(error):
                raise
            raise self.failureException(
                f"{self._where(client)}: {_advice(str(error), type(error).__name__)}"
            ) from None  # the context would show parameters of the connection
        finally:
            client.connection_pool.disconnect()

    def _where(self, client: Any = None) -> str:
        found = place(client or connect(self.server))
        return f"Redis {self.server.name!r} ({self.server.setting}) at {found}"

    def _delete(self, client: Any, key: str) -> None:
        """As far as that can be: a server that failed the write may fail this as well."""
        with _suppressed(_is_of_client):
            client.delete(key)


@contextmanager
def _suppressed(is_harmless: Callable[[Exception], bool]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_harmless(error):
            raise


def _is_of_client(error: Exception) -> bool:
    """Whether the library or the network raised it."""
    library = type(error).__module__.partition(".")[0]
    return library in {"redis", "valkey"} or isinstance(error, OSError)


def _advice(text: str, kind: str) -> str:
    if "NOPERM" in text or "no permissions" in text or "No permissions" in text:
        advice = (
            "Its user may not do that: let the ACL allow it PING, SELECT, SET, GET and DEL of the"
            f" keys ~{conf.key_prefix}* ({RedisConf.key_prefix.name})"
        )
    else:
        advice = next((words for sign, words in _ADVICE.items() if sign in text), "")
    return f"{advice}. It says: {text}" if advice else f"{kind}: {text}"
