"""System checks of the client library and of the servers to test."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from smoketest.conf import InvalidSettingError
from smoketest.contrib.redis.conf import RedisConf, conf
from smoketest.contrib.redis.targets import find_servers


def check_redis(**_: Any) -> list[CheckMessage]:
    """Check that redis-py or valkey is installed (E165) and a server is configured (W161)."""
    if find_spec("redis") is None and find_spec("valkey") is None:
        return [
            Error(
                "smoketest.contrib.redis requires redis or valkey; neither package is installed.",
                hint="Install it: pip install redis.",
                id="smoketest.E165",
            )
        ]
    try:
        has_servers = find_servers() or conf.skip
    except InvalidSettingError:
        return []  # reported by smoketest.checks
    if has_servers:
        return []
    return [
        Warning(
            "smoketest.contrib.redis found no Redis server in CACHES, CHANNEL_LAYERS,"
            " CELERY_BROKER_URL, CELERY_RESULT_BACKEND, RQ_QUEUES, Q_CLUSTER or HUEY; nothing is"
            " tested.",
            hint=f"Add the servers to {RedisConf.urls.name}, or remove the app.",
            id="smoketest.W161",
        )
    ]
