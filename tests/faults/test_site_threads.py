"""Long-lived threads and event loops of the site, which a smoke test is the first to use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from typing import Any

import pytest
from django.db import connections

from smoketest import SmokeTest
from tests.faults.backends import site
from tests.faults.conftest import VENDORS, Backends
from tests.faults.fault import suite
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.ledger.models import Account

#: Calls a function in a thread of the site, with the context of the caller.
Call = Callable[[Callable[[], Any]], Any]


@contextmanager
def pool_of_threads() -> Iterator[Call]:
    """Provide a thread pool whose jobs run in the context of the caller."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda job: pool.submit(copy_context().run, job).result()
        pool.submit(connections.close_all).result()


@contextmanager
def event_loop() -> Iterator[Call]:
    """Provide an event loop in a thread of its own, which runs jobs with `asyncio.to_thread`."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(job: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(asyncio.to_thread(job), loop).result()

    yield call
    call(connections.close_all)
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def background_task() -> Iterator[Call]:
    """Provide a task that runs jobs, and that the first caller starts, in its own context."""
    with ThreadPoolExecutor(1) as pool:
        contexts = []

        def call(job: Callable[[], Any]) -> Any:
            if not contexts:
                contexts.append(copy_context())
            return pool.submit(contexts[0].run, job).result()

        yield call
        pool.submit(connections.close_all).result()


def class_of_connection() -> type:
    """Return the class of the thread's connection."""
    return type(connections["default"])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("provide", [pool_of_threads, event_loop, background_task])
def test_site_thread__works_for_production_after_a_smoke_test_was_refused(
    backends: Backends, vendor: str, provide: Callable[[], AbstractContextManager[Call]]
) -> None:
    """Refuse the database to the smoke test, and leave nothing in the thread that refuses it."""
    backend = backends(vendor)
    with backend.restore_on_error(), site(backend.databases()), provide() as call:

        class UsesThread(SmokeTest):
            def test_it(self) -> None:
                call(lambda: Account.objects.create(name="in a thread of the site").id)

        report = run_suite(suite(UsesThread, "site_threads"))
        assert outcomes(report) == ("errored",), report.results[0].message
        assert "may not create its own connection" in report.results[0].message
        assert changes(backend) == []
        assert call(Account.objects.count) == 2
        assert call(lambda: Account.objects.filter(name="no such account").update(name="x")) == 0
        assert call(class_of_connection) is type(connections.create_connection("default"))
    assert_nothing_held(backend)
