"""Make a round trip: send a task over a queue and ask the workers for the note of its execution.

A task that does not return soon stays in the queue, where it waits for busy workers, and later runs
ask for its note. Tasks expire, and no other task is sent while one is valid.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

from smoketest.contrib.celery.broker import Replies, broadcast, connected
from smoketest.contrib.celery.names import NOTES, PING
from smoketest.contrib.celery.records import Record, load, save

#: Seconds for which a run waits for the task to return.
WAIT = 2.0
_PAUSE = 0.1


class RoundTrip(NamedTuple):
    """Result of a round trip."""

    #: Whether the last task has returned.
    is_back: bool
    #: Seconds since the first task was sent that has not returned.
    waiting: float
    #: Whether any task has ever returned, according to the records of this host.
    has_been_back: bool


class UnknownToWorkersError(Exception):
    """The workers have not loaded ``smoketest.contrib.celery``."""


def query_notes(
    app: Any, connection: Any, workers: Iterable[str], keys: list[str], within: float
) -> list[Replies]:
    """Return the replies of the workers that support notes. Raises `UnknownToWorkersError`."""
    replies = broadcast(
        app, connection, NOTES, arguments={"keys": keys}, workers=list(workers), within=within
    )
    supported = [reply for reply in replies.values() if "ages" in reply]
    if replies and not supported:
        raise UnknownToWorkersError
    return supported


def make_round_trip(
    app: Any, queue: str, workers: Iterable[str], name: str, *, valid: float, within: float
) -> RoundTrip:
    """Send a task over the queue, unless an earlier one is still valid, and wait for its return.

    `name` identifies the record for later runs. The task expires after `valid` seconds; `within` is
    the timeout for replies of the workers, in seconds. Raises `UnknownToWorkersError`.
    """
    workers = list(workers)
    with connected(app) as connection:
        record = _check_returned(app, connection, workers, load(name), within)
        if not record.key or not 0 <= time.time() - record.sent_at <= valid:
            record = _send(app, connection, queue, workers, record, valid)
            save(name, replace(record, looked_at=time.time()))
        deadline = time.monotonic() + WAIT
        while record.key and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            record = _check_returned(app, connection, workers, record, within)
        if record.key and time.time() - record.sent_at > valid:  # it expired meanwhile
            record = _send(app, connection, queue, workers, record, valid)
    now = time.time()
    save(name, replace(record, looked_at=now))
    return RoundTrip(
        is_back=not record.key,
        waiting=now - record.waiting_since if record.key else 0.0,
        has_been_back=record.returned_at > 0,
    )


def _check_returned(
    app: Any, connection: Any, workers: list[str], record: Record, within: float
) -> Record:
    """Return the updated record; it has no pending task if the task has returned."""
    keys = [record.key] if record.key else []
    may_be_lost = not set(record.workers) <= set(workers)
    for reply in query_notes(app, connection, workers, keys, within):
        if record.key in reply["ages"]:
            return Record(returned_at=time.time())
        # The worker was restarted after the task was sent.
        may_be_lost |= reply["uptime"] < time.time() - record.sent_at
    return replace(record, may_be_lost=record.may_be_lost or may_be_lost)


def _send(
    app: Any, connection: Any, queue: str, workers: list[str], record: Record, valid: float
) -> Record:
    key, now = uuid4().hex, time.time()
    app.send_task(
        PING,
        args=[key],
        queue=queue,
        expires=valid,
        ignore_result=True,
        connection=connection,
        retry=False,
    )
    # Without a recent run, it is unknown whether a worker was restarted and lost its note.
    was_checked = bool(record.key) and 0 <= now - record.looked_at <= valid
    is_excused = was_checked and record.may_be_lost and not record.is_excused
    return Record(
        key=key,
        sent_at=now,
        workers=workers,
        is_excused=is_excused or (was_checked and record.is_excused),
        waiting_since=record.waiting_since if was_checked and not is_excused else now,
        returned_at=record.returned_at,
    )
