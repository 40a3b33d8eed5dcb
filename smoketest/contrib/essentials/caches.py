"""Caches: they keep a value, and forget it."""

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

#: Seconds after which a value goes that could not be deleted.
LIFETIME = 60
#: Seconds that a replica, from which the cache reads, may be behind.
LAG = 1.0


@tag("cache")
class CacheTest(SmokeTest):
    # Every database: a cache may be a table, and where routers say.
    alias: ClassVar[str]
    timeout = 5
    slow_after = 0.5

    def test_sets_gets_and_deletes(self) -> None:
        """The cache keeps a value under a random key, gives it back, and deletes it."""
        where = f"CACHES[{self.alias!r}]"
        advice = f"Is its server running, can this host reach it, and is {where} right?"
        with failing(f"The cache {self.alias!r} does not work", advice):
            cache = caches[self.alias]
            if isinstance(cache, DummyCache):
                self.skipTest(f"{where} is a dummy, which keeps nothing.")
            key, value = f"smoketest-{secrets.token_hex(16)}", secrets.token_hex(16)
            try:
                cache.set(key, value, LIFETIME)
                found = _get(cache, key, lambda found: found == value)
                self.assertEqual(
                    found,
                    value,
                    f"The cache {self.alias!r} does not keep what it is given: {found!r} came"
                    f" back. Is it full, or does {where} ignore the errors of its server?",
                )
                cache.delete(key)
                self.assertIsNone(
                    _get(cache, key, lambda found: found is None),
                    f"The cache {self.alias!r} does not delete: the value was still there. Do"
                    " several servers answer, or is this one read-only?",
                )
            except BaseException:
                with suppress(Exception):  # what went wrong first is what to tell
                    cache.delete(key)
                raise


def _get(cache: Any, key: str, is_right: Callable[[object], bool]) -> object:
    """What the cache has, as soon as that is right, or after `LAG`."""
    deadline = monotonic() + LAG
    while not is_right(found := cache.get(key)) and monotonic() < deadline:
        sleep(0.05)
    return found
