"""Waits for an answer, and hands on what happens meanwhile."""

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


def watch(ask: Ask) -> Iterator[Event | Answer]:
    """The events, and at last the answer; raises what asking for it raises.

    It is asked for on a thread of its own, so that a run goes on when nobody watches any more.
    """
    heard: SimpleQueue[Event | Answer | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            heard.put(ask(heard.put))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever watches
            heard.put(error)
        finally:
            connections.close_all()  # receivers of the signal may have opened some

    # In the context of whoever asks: a smoke test may not run the smoke tests this way either.
    target = partial(copy_context().run, run)
    threading.Thread(target=target, name="smoketest-answer", daemon=True).start()
    while True:
        match heard.get():
            case Answer() as answer:
                yield answer
                return
            case BaseException() as error:
                raise error
            case event:
                yield event
