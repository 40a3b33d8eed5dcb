"""App configuration of ``smoketest.contrib.redis``."""

from __future__ import annotations

from smoketest.contrib.config import ContribConfig
from smoketest.contrib.redis.checks import check_redis
from smoketest.contrib.redis.conf import RedisConf


class RedisConfig(ContribConfig):
    name = "smoketest.contrib.redis"
    label = "smoketest_redis"
    verbose_name = "Smoke tests of Redis"
    smoke_settings = RedisConf
    smoke_check = staticmethod(check_redis)
