"""The settings ``SMOKETEST_CELERY_*``."""

from __future__ import annotations

from collections.abc import Sequence

from smoketest.conf import Setting, Settings, boolean, seconds


class CeleryConf(Settings, prefix="SMOKETEST_CELERY_"):
    """Settings of the app."""

    #: Celery app of the site, as for `celery -A`. Empty: the current app, or else the app of the
    #: package that contains the settings module.
    app: Setting[str] = Setting(
        "smoketest.E141",
        "",
        "a string such as 'shop.celery:app', or an empty string",
        lambda value: isinstance(value, str),
    )
    #: Names of the queues to test. None: `task_queues` of the app, or else its default queue.
    queues: Setting[Sequence[str] | None] = Setting(
        "smoketest.E142",
        None,
        "a non-empty list or tuple of queue names, or None for the queues of the app",
        lambda value: (
            value is None
            or (
                isinstance(value, (list, tuple))
                and bool(value)
                and all(isinstance(name, str) and name for name in value)
            )
        ),
    )
    #: Timeout for replies of the workers, in seconds.
    reply_timeout = seconds("smoketest.E143", 2.0)
    #: Maximum time that a task may wait in a queue, in seconds.
    max_latency = seconds("smoketest.E144", 300.0)
    #: Whether beat is tested. Adds an entry to its schedule, which sends a heartbeat task.
    beat = boolean("smoketest.E145", False)
    #: Interval of the heartbeat task, in seconds.
    beat_interval = seconds("smoketest.E146", 60.0)
    #: Maximum age of the last heartbeat, in seconds. It must be greater than the interval.
    beat_max_age = seconds("smoketest.E147", 300.0)


conf = CeleryConf()
