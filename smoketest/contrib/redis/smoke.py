"""One class of smoke tests for each Redis server that the settings of the site name."""

from __future__ import annotations

from smoketest.contrib.redis.configured import find_servers
from smoketest.contrib.redis.testing import RedisTest
from smoketest.contrib.variants import define

for _server in find_servers():
    define(globals(), RedisTest, _server.name, server=_server)
