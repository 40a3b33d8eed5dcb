"""System checks: the client library is there, and there is a server to test."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from smoketest.conf import InvalidSettingError
from smoketest.contrib.redis.conf import RedisConf, conf
from smoketest.contrib.redis.targets import find_servers


def check_redis(**_: Any) -> list[CheckMessage]:
    """redis-py or valkey is installed (E165); the settings name a server (W161)."""
    if find_spec("redis") is None and find_spec("valkey") is None:
        return [
            Error(
                "smoketest.contrib.redis needs the package redis (or valkey), which is missing.",
                hint="Install it: pip install redis.",
                id="smoketest.E165",
            )
        ]
    try:
        found = find_servers() or conf.skip
    except InvalidSettingError:
        return []  # smoketest.checks complains of it
    if found:
        return []
    return [
        Warning(
            "smoketest.contrib.redis found no Redis server in CACHES, CHANNEL_LAYERS,"
            " CELERY_BROKER_URL and CELERY_RESULT_BACKEND: nothing is tested.",
            hint=f"Name the servers in {RedisConf.urls.name}, or remove the app.",
            id="smoketest.W161",
        )
    ]
