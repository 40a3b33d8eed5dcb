"""Send a task round: out over a queue, and back as a note that a worker has of it.

A task that does not come back soon is left in the queue, for a later run to ask after: behind busy
workers it has to wait. It expires, and no second one is sent while it is valid.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

from smoketest.contrib.celery.broker import Replies, ask, connected
from smoketest.contrib.celery.names import NOTES, PING
from smoketest.contrib.celery.records import Record, load, save

#: Seconds that a run waits for the task to come back.
WAIT = 2.0
_PAUSE = 0.1


class Round(NamedTuple):
    """How it went."""

    #: Whether the task that was sent last is back.
    is_back: bool
    #: Seconds since the first of those was sent that are not back.
    waiting: float
    #: Whether one has ever come back, as far as this host knows.
    has_been_back: bool


class UnknownToWorkersError(Exception):
    """The workers have not loaded ``smoketest.contrib.celery``."""


def ask_notes(
    app: Any, connection: Any, workers: Iterable[str], keys: list[str], within: float
) -> list[Replies]:
    """What those of the workers answer that know of notes. Raises `UnknownToWorkersError`."""
    replies = ask(
        app, connection, NOTES, arguments={"keys": keys}, workers=list(workers), within=within
    )
    known = [reply for reply in replies.values() if "ages" in reply]
    if replies and not known:
        raise UnknownToWorkersError
    return known


def send_round(
    app: Any, queue: str, workers: Iterable[str], name: str, *, valid: float, within: float
) -> Round:
    """Send a task over the queue, unless the one that was sent before is still valid.

    `valid` is how many seconds it may be under way, `within` how many a worker has for an answer;
    `name` is that of the record which later runs find. Raises `UnknownToWorkersError`.
    """
    workers = list(workers)
    with connected(app) as connection:
        record = _ask_after(app, connection, workers, load(name), within)
        if not record.key or not 0 <= time.time() - record.sent_at <= valid:
            record = _send(app, connection, queue, workers, record, valid)
            save(name, replace(record, looked_at=time.time()))
        deadline = time.monotonic() + WAIT
        while record.key and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            record = _ask_after(app, connection, workers, record, within)
        if record.key and time.time() - record.sent_at > valid:  # it expired meanwhile
            record = _send(app, connection, queue, workers, record, valid)
    now = time.time()
    save(name, replace(record, looked_at=now))
    return Round(
        is_back=not record.key,
        waiting=now - record.waiting_since if record.key else 0.0,
        has_been_back=record.returned_at > 0,
    )


def _ask_after(
    app: Any, connection: Any, workers: list[str], record: Record, within: float
) -> Record:
    """The record, without the task if that is back."""
    keys = [record.key] if record.key else []
    is_lost = not set(record.workers) <= set(workers)
    for reply in ask_notes(app, connection, workers, keys, within):
        if record.key in reply["ages"]:
            return Record(returned_at=time.time())
        # A deploy, or a smaller pool.
        is_lost |= reply["uptime"] < time.time() - record.sent_at
    return replace(record, may_be_lost=record.may_be_lost or is_lost)


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
    # What nobody looked at may have been lost with the worker that knew of it.
    was_watched = bool(record.key) and 0 <= now - record.looked_at <= valid
    is_excused = was_watched and record.may_be_lost and not record.is_excused
    return Record(
        key=key,
        sent_at=now,
        workers=workers,
        is_excused=is_excused or (was_watched and record.is_excused),
        waiting_since=record.waiting_since if was_watched and not is_excused else now,
        returned_at=record.returned_at,
    )
