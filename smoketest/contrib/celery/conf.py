"""The settings ``SMOKETEST_CELERY_*``."""

from __future__ import annotations

from collections.abc import Sequence

from smoketest.conf import Setting, Settings
from smoketest.validators import BOOLEAN, POSITIVE_SECONDS, Validator, string


class CeleryConf(Settings, prefix="SMOKETEST_CELERY_"):
    """Settings of the app."""

    #: Celery app of the site, as for `celery -A`. Empty: the current app, or else the app of the
    #: package that contains the settings module.
    app: Setting[str] = Setting(
        "smoketest.E141",
        "",
        string("a string such as 'shop.celery:app', or an empty string"),
    )
    #: Names of the queues to test. None: `task_queues` of the app, or else its default queue.
    queues: Setting[Sequence[str] | None] = Setting(
        "smoketest.E142",
        None,
        Validator(
            "a non-empty list or tuple of queue names",
            lambda value: isinstance(value, (list, tuple)),
            lambda value: bool(value) and all(isinstance(name, str) and name for name in value),
        ).or_none("for the queues of the app"),
    )
    #: Timeout for replies of the workers, in seconds.
    reply_timeout: Setting[float] = Setting("smoketest.E143", 2.0, POSITIVE_SECONDS)
    #: Maximum time that a task may wait in a queue, in seconds.
    max_latency: Setting[float] = Setting("smoketest.E144", 300.0, POSITIVE_SECONDS)
    #: Whether beat is tested. Adds an entry to its schedule, which sends a heartbeat task.
    beat: Setting[bool] = Setting("smoketest.E145", False, BOOLEAN)
    #: Interval of the heartbeat task, in seconds.
    beat_interval: Setting[float] = Setting("smoketest.E146", 60.0, POSITIVE_SECONDS)
    #: Maximum age of the last heartbeat, in seconds. It must be greater than the interval.
    beat_max_age: Setting[float] = Setting("smoketest.E147", 300.0, POSITIVE_SECONDS)


conf = CeleryConf()
