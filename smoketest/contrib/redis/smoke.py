"""Smoke tests of Redis: one class for each server in the settings of the site."""

from __future__ import annotations

from smoketest.contrib.redis.cases import RedisTest
from smoketest.contrib.redis.targets import find_servers
from smoketest.contrib.variants import define

for _server in find_servers():
    define(globals(), RedisTest, _server.name, server=_server)
