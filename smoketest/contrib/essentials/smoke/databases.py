"""Smoke tests of databases: classes for each database, its migrations and its clock."""

from smoketest.contrib import variants
from smoketest.contrib.essentials.databases import CLOCKS, ClockTest, DatabaseTest, MigrationsTest
from smoketest.contrib.essentials.targets import databases, is_read_only, is_wanted, vendor

for _alias in databases():
    _attributes = {"alias": _alias, "databases": {_alias}}
    if is_wanted("databases", _alias):
        variants.define(globals(), DatabaseTest, _alias, **_attributes)
    if is_wanted("migrations", _alias) and not is_read_only(_alias):
        variants.define(globals(), MigrationsTest, _alias, **_attributes)
    if is_wanted("clock", _alias) and vendor(_alias) in CLOCKS:
        variants.define(globals(), ClockTest, _alias, **_attributes)
