"""Smoke tests of caches: one class for each cache."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.caches import CacheTest
from smoketest.contrib.essentials.targets import caches, is_wanted

for _alias in caches():
    if is_wanted("caches", _alias):
        variants.define(globals(), CacheTest, _alias, alias=_alias)
