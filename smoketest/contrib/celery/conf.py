"""The settings ``SMOKETEST_CELERY_*``."""

from __future__ import annotations

from collections.abc import Sequence

from smoketest.conf import Setting, Settings, boolean, seconds


class CeleryConf(Settings, prefix="SMOKETEST_CELERY_"):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: Where the site's Celery app is, as for ``celery -A``; empty: the current app, or that of the
    #: package in which the settings are.
    app: Setting[str] = Setting(
        "smoketest.E141",
        "",
        "a string such as 'shop.celery:app', or empty",
        lambda value: isinstance(value, str),
    )
    #: Queues that need a worker; None: those that the app knows (``task_queues``, or else its
    #: default queue).
    queues: Setting[Sequence[str] | None] = Setting(
        "smoketest.E142",
        None,
        "a list or tuple of names of queues, at least one; or None for those of the app",
        lambda value: (
            value is None
            or (
                isinstance(value, (list, tuple))
                and bool(value)
                and all(isinstance(name, str) and name for name in value)
            )
        ),
    )
    #: How long workers have to answer whether they are there.
    reply_timeout = seconds("smoketest.E143", 2.0)
    #: How long a task may wait in a queue before that is a failure.
    max_latency = seconds("smoketest.E144", 300.0)
    #: Whether beat gets an entry in its schedule by which it is known to be alive.
    beat = boolean("smoketest.E145", False)
    #: How often beat sends that.
    beat_interval = seconds("smoketest.E146", 60.0)
    #: How long beat may be silent before that is a failure; more than the interval.
    beat_max_age = seconds("smoketest.E147", 300.0)


conf = CeleryConf()
