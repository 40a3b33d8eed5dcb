"""The round-trip task, and its entry in beat's schedule.

Only workers and beat import this module, through ``app.autodiscover_tasks()``.
"""

from __future__ import annotations

from typing import Any

from celery import current_app, shared_task

from smoketest.contrib.celery import remote
from smoketest.contrib.celery.broker import connected, send_command
from smoketest.contrib.celery.conf import conf
from smoketest.contrib.celery.names import ENTRY, HEARTBEAT, NOTE, PING

__all__ = ["ping", "remote"]


# Expiry of the tasks that beat sends: django-celery-beat ignores the options of a schedule entry.
@shared_task(  # type: ignore[untyped-decorator]
    name=PING, bind=True, ignore_result=True, expires=conf.beat_max_age
)
def ping(self: Any, key: str) -> None:
    """Note the execution of this task in the main process of the worker.

    Clients query the worker for the note, so no result backend is needed.
    """
    with connected(self.app) as connection:
        send_command(self.app, connection, self.request.hostname, NOTE, {"key": key})


def add_heartbeat(sender: Any, **_: Any) -> None:
    """Add the heartbeat to beat's schedule if ``SMOKETEST_CELERY_BEAT`` is True."""
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
