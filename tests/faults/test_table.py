"""Operations on databases: results, and no remaining changes, locks or connections."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from smoketest.results import Report
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import Backend, site
from tests.faults.conftest import BACKENDS, Backends
from tests.faults.fault import Fault
from tests.faults.harness import (
    assert_next_run_is_healthy,
    assert_nothing_held,
    changes,
    outcomes,
    run_suite,
)
from tests.faults.table import TABLE
from tests.hanging import assert_hanging, released, reset
from tests.servers.processes import wait_for

#: Maximum duration of a timed-out test, in seconds. Hanging code in the rows runs for half a
#: minute or more.
REPORTED_WITHIN = 20.0


@pytest.fixture(autouse=True)
def release_threads() -> Iterator[None]:
    """Release threads that still hang after a failed row."""
    reset()
    yield
    released.set()


#: A cursor that was left open issues a warning when it is garbage-collected.
ignore_garbage_warnings = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def marks_of(vendor: str, fault: Fault) -> list[pytest.MarkDecorator]:
    """Return the marks of a row; most rows do not depend on SQLite's journal mode."""
    marks = list(ignore_garbage_warnings) if fault.leaves_garbage else []
    if vendor == "sqlite-wal" and not fault.expected["sqlite"].in_wal:
        marks.append(pytest.mark.e2e)
    return marks


def cases() -> list[object]:
    """Return each row for each of its databases, sorted by database."""
    return [
        pytest.param(
            vendor.values[0],
            fault,
            id=f"{vendor.id}-{fault.id}",
            marks=[*vendor.marks, *marks_of(str(vendor.values[0]), fault)],
        )
        for vendor in BACKENDS
        for fault in TABLE
        if vendor.values[0].partition("-")[0] in fault.expected
    ]


@pytest.mark.parametrize(("vendor", "fault"), cases())
def test_fault(backends: Backends, vendor: str, fault: Fault) -> None:
    """The row has the expected result, leaves nothing behind, and the next run passes.

    A timed-out test is reported and has released everything while its code still hangs.
    """
    backend = backends(vendor)
    with backend.restore_on_error():
        check(backend, fault)
    if fault.leaves_garbage:
        gc.collect()  # while its warnings are expected


def check(backend: Backend, fault: Fault) -> None:
    databases = backend.databases()
    databases["default"] |= fault.settings
    abandoned = LocallyAbandoned()
    expected = fault.expected_on(backend)
    lock_timeout = expected.lock_timeout or fault.lock_timeout
    with site(databases), fault.context(backend):
        report = run_suite(
            fault.suite(backend), abandoned, lock_timeout=lock_timeout, workers=fault.workers
        )
        if backend.distinguishes_production:
            assert_nothing_held(backend)
    if expected.is_held:
        assert backend.held_resources()
        assert_hanging()
        assert_abandoned_threads_have_no_effect(abandoned, backend)
        assert_nothing_held(backend)
    else:
        assert_nothing_held(backend)
        assert_hanging()
    check_report(report, fault, backend)
    if expected.is_kept:
        assert changes(backend)
        backend.restore()
    assert changes(backend) == []
    with site(backend.databases()):
        assert_next_run_is_healthy(backend)
        assert_abandoned_threads_have_no_effect(abandoned, backend)
    assert changes(backend) == []


def check_report(report: Report, fault: Fault, backend: Backend) -> None:
    """Check the outcomes, the message and the duration."""
    expected = fault.expected_on(backend)
    messages = [result.message for result in report.results]
    assert outcomes(report) == tuple(expected.outcomes), messages
    message = next((result.message for result in report.results if result.message), "")
    for fragment in expected.in_message:
        assert fragment.format(holder=backend.holder).lower() in message.lower()
    for result in report.results:
        if result.outcome == "timed_out":
            assert result.duration < REPORTED_WITHIN


def assert_abandoned_threads_have_no_effect(abandoned: LocallyAbandoned, backend: Backend) -> None:
    """Check that abandoned tests cannot use the database when they continue."""
    released.set()
    backend.close_silent_connections()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    assert_nothing_held(backend)
