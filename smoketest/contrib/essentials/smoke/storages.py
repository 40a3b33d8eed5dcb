"""Smoke tests of storages: one class for each storage."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.storages import StorageTest
from smoketest.contrib.essentials.targets import is_wanted, storages

for _alias in storages():
    if is_wanted("storages", _alias):
        variants.define(globals(), StorageTest, _alias, alias=_alias)
