"""Test class for a cache."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, ClassVar

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials.explain import failing
from smoketest.contrib.logs import hide_debug_messages_of_redis

#: Seconds after which a value expires that could not be deleted.
LIFETIME = 60
#: Maximum replication lag in seconds, for caches that read from a replica.
LAG = 1.0

hide_debug_messages_of_redis()


@tag("cache")
class CacheTest(SmokeTest):
    # All databases are allowed: a database cache may be in any of them.
    alias: ClassVar[str]
    timeout = 5
    slow_after = 0.5

    def test_sets_gets_and_deletes(self) -> None:
        """The cache stores, returns and deletes a value."""
        where = f"CACHES[{self.alias!r}]"
        advice = f"Is its server running and reachable, and is {where} correct?"
        with failing(f"The cache {self.alias!r} does not work", advice):
            cache = caches[self.alias]
            if isinstance(cache, DummyCache):
                self.skipTest(f"{where} is a dummy cache, which stores nothing.")
            key, value = f"smoketest-{secrets.token_hex(16)}", secrets.token_hex(16)
            try:
                cache.set(key, value, LIFETIME)
                found = _get(cache, key, lambda found: found == value)
                self.assertEqual(
                    found,
                    value,
                    f"The cache {self.alias!r} returned {found!r} instead of the value that was"
                    f" set. Is it full, or does {where} ignore the errors of its server?",
                )
                cache.delete(key)
                self.assertIsNone(
                    _get(cache, key, lambda found: found is None),
                    f"The cache {self.alias!r} still returned a value after it was deleted. Are"
                    " there several servers, or is it read-only?",
                )
            except BaseException:
                with suppress(Exception):  # report the first error
                    cache.delete(key)
                raise


def _get(cache: Any, key: str, is_expected: Callable[[object], bool]) -> object:
    """Return the value of a key as soon as it is as expected, or after `LAG` seconds."""
    deadline = monotonic() + LAG
    while not is_expected(found := cache.get(key)) and monotonic() < deadline:
        sleep(0.05)
    return found
