"""The task that goes round, and its entry in beat's schedule.

Workers and beat import this by ``app.autodiscover_tasks()``; the site's other processes do not.
"""

from __future__ import annotations

from typing import Any

from celery import current_app, shared_task

from smoketest.contrib.celery import remote
from smoketest.contrib.celery.broker import connected, tell
from smoketest.contrib.celery.conf import conf
from smoketest.contrib.celery.names import ENTRY, HEARTBEAT, NOTE, PING

__all__ = ["ping", "remote"]


# What beat sends expires by this: django-celery-beat does not keep the options of an entry.
@shared_task(  # type: ignore[untyped-decorator]
    name=PING, bind=True, ignore_result=True, expires=conf.beat_max_age
)
def ping(self: Any, key: str) -> None:
    """Have the main process of this worker note that a task with this key has run.

    That needs no result backend, and whoever asks the worker hears of it.
    """
    with connected(self.app) as connection:
        tell(self.app, connection, self.request.hostname, NOTE, {"key": key})


def add_heartbeat(sender: Any, **_: Any) -> None:
    """Put the entry into the schedule, if the site wants that."""
    if conf.beat:
        queue = sender.conf.task_default_queue
        sender.add_periodic_task(
            conf.beat_interval,
            sender.signature(PING, args=[HEARTBEAT], queue=queue),
            name=ENTRY,
        )


_app = current_app._get_current_object()
if _app.finalized:
    add_heartbeat(_app)
else:
    _app.on_after_finalize.connect(add_heartbeat)
