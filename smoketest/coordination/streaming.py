"""Stream the events of a run, followed by the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue

from django.db import connections

from smoketest.coordination.coordinator import Answer
from smoketest.results import Event, Listener

Ask = Callable[[Listener], Answer]


def stream_events(ask: Ask) -> Iterator[Event | Answer]:
    """Call `ask` in a thread, and yield its events and finally its answer.

    An exception of `ask` is raised in the iterator. The run continues if the client disconnects.
    """
    queue: SimpleQueue[Event | Answer | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            queue.put(ask(queue.put))
        except BaseException as error:  # noqa: BLE001 - raised again by the iterator
            queue.put(error)
        finally:
            connections.close_all()  # receivers of run_finished may have opened connections

    # The context carries the guard that keeps a smoke test from running the smoke tests.
    target = partial(copy_context().run, run)
    threading.Thread(target=target, name="smoketest-answer", daemon=True).start()
    while True:
        match queue.get():
            case Answer() as answer:
                yield answer
                return
            case BaseException() as error:
                raise error
            case event:
                yield event
