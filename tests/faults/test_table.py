"""Whatever a smoke test does to a database, nothing of it is kept, held or waited for."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from smoketest.results import Report
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.conftest import VENDORS, Places
from tests.faults.fault import Fault
from tests.faults.looking import (
    assert_next_run_is_healthy,
    assert_nothing_is_held,
    changes,
    outcomes,
    run_suite,
)
from tests.faults.places import Place, site
from tests.faults.table import TABLE
from tests.hanging import assert_hanging, released, reset
from tests.servers.processes import wait_for

#: Maximum duration of a test that timed out, in seconds; the code that hangs in the rows does so
#: for half a minute or more.
ANSWERS_WITHIN = 20.0


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """Let those go that hang in a row which failed."""
    reset()
    yield
    released.set()


#: A cursor that is left open complains when it is collected.
untidy = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def cases() -> list[object]:
    """Each row on each of its databases; a database's rows follow each other."""
    return [
        pytest.param(
            vendor.values[0],
            fault,
            id=f"{vendor.id}-{fault.id}",
            marks=[*vendor.marks, *(untidy if fault.is_untidy else [])],
        )
        for vendor in VENDORS
        for fault in TABLE
        if vendor.values[0] in fault.expected
    ]


@pytest.mark.parametrize(("vendor", "fault"), cases())
def test_fault(places: Places, vendor: str, fault: Fault) -> None:
    """The outcome is as the row says, no row changes, nothing remains, the next run is healthy.

    A timed-out test is reported and has freed what it held while its code still hangs.
    """
    place = places(vendor)
    with place.put_right():
        check(place, fault)
    if fault.is_untidy:
        gc.collect()  # here, where its warnings are expected


def check(place: Place, fault: Fault) -> None:
    databases = place.databases()
    databases["default"] |= fault.settings
    abandoned = LocallyAbandoned()
    expected = fault.expected[place.vendor]
    lock_timeout = expected.lock_timeout or fault.lock_timeout
    with site(databases), fault.meanwhile(place):
        report = run_suite(
            fault.suite(place), abandoned, lock_timeout=lock_timeout, workers=fault.workers
        )
        if place.tells_apart:
            assert_nothing_is_held(place)
    if expected.is_held:
        assert place.held()
        assert_hanging()
        assert_late_threads_do_nothing(abandoned, place)
        assert_nothing_is_held(place)
    else:
        assert_nothing_is_held(place)
        assert_hanging()
    check_report(report, fault, place)
    if expected.is_kept:
        assert changes(place)
        place.restore()
    assert changes(place) == []
    with site(place.databases()):
        assert_next_run_is_healthy(place)
        assert_late_threads_do_nothing(abandoned, place)
    assert changes(place) == []


def check_report(report: Report, fault: Fault, place: Place) -> None:
    """The outcomes and the message are those of the row, and in time."""
    expected = fault.expected[place.vendor]
    messages = [result.message for result in report.results]
    assert outcomes(report) == tuple(expected.outcomes), messages
    message = next((result.message for result in report.results if result.message), "")
    for fragment in expected.says:
        assert fragment.format(holder=place.holder).lower() in message.lower()
    for result in report.results:
        if result.outcome == "timed_out":
            assert result.duration < ANSWERS_WITHIN


def assert_late_threads_do_nothing(abandoned: LocallyAbandoned, place: Place) -> None:
    """Tests that were given up on go on in the end; what they do then is refused."""
    released.set()
    place.hang_up()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    assert_nothing_is_held(place)
