"""One class for each storage."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.inventory import is_wanted, storages
from smoketest.contrib.essentials.storages import StorageTest

for _alias in storages():
    if is_wanted("storages", _alias):
        variants.define(globals(), StorageTest, _alias, alias=_alias)
