"""The coordinator with a real results store and real locks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import override_settings

from smoketest.coordination.coordinator import (
    Answer,
    BusyError,
    Coordinator,
    Freshness,
    NothingSelectedError,
    NotStoredError,
)
from smoketest.results import Event, Outcome, Report, Selection, StopReason, Waiting
from smoketest.runner import loader
from smoketest.signals import run_finished
from smoketest.store import SharedStore
from smoketest.store.abandoned import AbandonedOnHost
from smoketest.store.directory import StateFolder
from smoketest.store.locks import HostLock
from tests import hanging
from tests.builders import make_report, make_result
from tests.conftest import EVERYTHING, Apps, options
from tests.servers.processes import wait_for

DEFAULT = Freshness()
NO_CACHE = Freshness(no_cache=True)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    path = tmp_path / "state"
    path.mkdir()
    return StateFolder(path, 0o600)


def make(folder: StateFolder, **changes: object) -> Coordinator:
    coordinator = Coordinator(
        options=options(),
        store=SharedStore(folder),
        abandoned=AbandonedOnHost(folder),
        run_lock=HostLock(folder, "run"),
        waiting_locks=(HostLock(folder, "waiting-0"), HostLock(folder, "waiting-1")),
        max_age=60.0,
        code_loaded_at=0.0,
    )
    return replace(coordinator, **changes)


Install = Callable[[str], None]


@pytest.fixture
def install(apps: Apps) -> Iterator[Install]:
    """Install an app with this smoke module."""
    overrides = []

    def install_app(smoke: str) -> None:
        apps.add(smoke)
        override = override_settings(INSTALLED_APPS=["smoketest", *apps.names])
        override.enable()
        overrides.append(override)

    yield install_app
    for override in reversed(overrides):
        override.disable()


ONE_PASSES = """
class T(SmokeTest):
    @tag("quick")
    def test_one(self):
        pass
"""
HANGS = """
from tests import hanging
class T(SmokeTest):
    def test_slow(self):
        hanging.hang()
"""


def request_concurrently(
    coordinator: Coordinator, count: int, freshness: Freshness = DEFAULT, *, before_the_end: int
) -> list[Answer | Exception]:
    """Request a report from several threads and return the answers in order of arrival.

    The run of `HANGS` ends after the first `before_the_end` answers.
    """
    answers: list[Answer | Exception] = []
    barrier = threading.Barrier(count)
    hanging.reset()

    def request() -> None:
        barrier.wait()
        try:
            answers.append(coordinator.answer(EVERYTHING, freshness))
        except BusyError as error:
            answers.append(error)

    threads = [threading.Thread(target=request) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(answers) >= before_the_end, within=30, what="answers before the end")
        hanging.assert_hanging()
    finally:
        hanging.released.set()
        for thread in threads:
            thread.join()
    return answers


@contextmanager
def run_in_progress(coordinator: Coordinator) -> Iterator[None]:
    """Start a run of `HANGS` in another thread, and wait for it at the end of the context."""
    hanging.reset()
    thread = threading.Thread(target=coordinator.answer, args=(EVERYTHING, DEFAULT))
    thread.start()
    try:
        wait_for(lambda: coordinator.store.status().last_attempt_at, what="the run")
        yield
    finally:
        hanging.released.set()
        thread.join()


def release_the_run(event: Event) -> None:
    """End the run in progress when the caller starts to wait for it."""
    if isinstance(event, Waiting):
        hanging.assert_hanging()
        hanging.released.set()


def runs(coordinator: Coordinator) -> int:
    return sum(coordinator.store.snapshot().run_totals.values())


def test_answer__empty_store(folder: StateFolder, install: Install) -> None:
    """The first request starts a run, which is recorded and has age 0."""
    install(ONE_PASSES)
    coordinator = make(folder)
    answer = coordinator.answer(EVERYTHING, DEFAULT)
    assert answer.report.passed
    assert answer.age == 0
    assert coordinator.store.latest_report(EVERYTHING, failfast=False) == answer.report


def test_answer__fresh_result(folder: StateFolder, install: Install) -> None:
    """A stored result younger than `max_age` is returned with its age."""
    install(ONE_PASSES)
    coordinator = make(folder)
    first = coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.05)
    second = coordinator.answer(EVERYTHING, DEFAULT)
    assert second.report == first.report
    assert second.age >= 0.05
    assert runs(coordinator) == 1


@pytest.mark.parametrize("freshness", [Freshness(max_age=0.01), NO_CACHE])
def test_answer__fresher_result_required(
    folder: StateFolder, install: Install, freshness: Freshness
) -> None:
    """The max-age or no-cache of a request overrides that of the site."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.02)
    assert coordinator.answer(EVERYTHING, freshness).age == 0
    assert runs(coordinator) == 2


def test_answer__older_result_accepted(folder: StateFolder, install: Install) -> None:
    """The max-age of a request may exceed that of the site."""
    install(ONE_PASSES)
    coordinator = make(folder, max_age=0.0)
    coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.01)
    assert coordinator.answer(EVERYTHING, Freshness(max_age=60)).age > 0
    assert runs(coordinator) == 1


def test_answer__result_of_older_code(folder: StateFolder, install: Install) -> None:
    """A run that started before this process loaded its code is not returned."""
    install(ONE_PASSES)
    make(folder).answer(EVERYTHING, DEFAULT)
    deployed = make(folder, code_loaded_at=time.time())
    with pytest.raises(NotStoredError):
        deployed.answer(EVERYTHING, Freshness(only_if_cached=True))
    assert deployed.answer(EVERYTHING, DEFAULT).age == 0


@pytest.mark.parametrize(("release", "is_accepted"), [("v1", True), ("v2", False), ("", False)])
def test_answer__result_of_the_same_release(
    folder: StateFolder, install: Install, release: str, is_accepted: bool
) -> None:
    """A worker process that replaces another of the same release uses its results."""
    install(ONE_PASSES)
    before = make(folder, options=options(release="v1")).answer(EVERYTHING, DEFAULT).report
    recycled = make(folder, options=options(release=release), code_loaded_at=time.time())
    assert (recycled.answer(EVERYTHING, DEFAULT).report == before) is is_accepted


def test_answer__clock_set_back(folder: StateFolder, install: Install) -> None:
    """A result with a start time in the future is not considered fresh."""
    install(ONE_PASSES)
    coordinator = make(folder)
    report = coordinator.answer(EVERYTHING, DEFAULT).report
    coordinator.store.record(replace(report, started_at=time.time() + 3600))
    assert coordinator.answer(EVERYTHING, DEFAULT).age == 0
    assert runs(coordinator) == 3


def test_answer__only_if_cached(folder: StateFolder, install: Install) -> None:
    """only-if-cached accepts any stored result within its max-age and starts no run."""
    install(ONE_PASSES)
    coordinator = make(folder, max_age=0.0)
    with pytest.raises(NotStoredError):
        coordinator.answer(EVERYTHING, Freshness(only_if_cached=True))
    coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.02)
    assert coordinator.answer(EVERYTHING, Freshness(only_if_cached=True)).age > 0
    with pytest.raises(NotStoredError):
        coordinator.answer(EVERYTHING, Freshness(only_if_cached=True, max_age=0.01))
    assert runs(coordinator) == 1


def test_answer__full_run_covers_selection(folder: StateFolder, install: Install) -> None:
    """A full run covers a filtered request, but a filtered run does not cover a full request."""
    install(ONE_PASSES + "    def test_two(self):\n        self.fail('no')\n")
    coordinator = make(folder)
    quick = Selection(tags=("quick",))
    assert coordinator.answer(quick, DEFAULT).report.passed
    assert not coordinator.answer(EVERYTHING, DEFAULT).report.passed
    narrowed = coordinator.answer(quick, DEFAULT)
    assert narrowed.age > 0
    assert [result.id for result in narrowed.report.results] == ["app0.smoke.T.test_one"]
    assert narrowed.report.passed


def test_answer__stopped_by_failfast(folder: StateFolder, install: Install) -> None:
    """A run stopped by fail-fast is returned only to requests with fail-fast."""
    install(
        """
        class T(SmokeTest):
            def test_1(self):
                self.fail("no")
            def test_2(self):
                pass
        """
    )
    coordinator = make(folder)
    first = coordinator.answer(EVERYTHING, DEFAULT, failfast=True)
    assert first.report.stop_reason is StopReason.FAIL_FAST
    assert coordinator.answer(EVERYTHING, DEFAULT, failfast=True).report == first.report
    assert coordinator.answer(EVERYTHING, DEFAULT).report.stop_reason is StopReason.NONE


@pytest.mark.parametrize("selection", [EVERYTHING, Selection(names=("unknown",))])
def test_answer__no_tests_selected(folder: StateFolder, selection: Selection) -> None:
    """A site without tests or a selection without matches is an error."""
    with override_settings(INSTALLED_APPS=["smoketest"]):
        coordinator = make(folder)
        with pytest.raises(NothingSelectedError):
            coordinator.answer(selection, DEFAULT)
        with pytest.raises(NothingSelectedError):
            coordinator.run(selection, wait=1)
        assert runs(coordinator) == 0


def test_answer__selection_without_match_in_stored_run(
    folder: StateFolder, install: Install
) -> None:
    """A selection without matches is an error, even if a full run is stored."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.answer(EVERYTHING, DEFAULT)
    with pytest.raises(NothingSelectedError):
        coordinator.answer(Selection(tags=("slow",)), DEFAULT)


def test_answer__concurrent_requests(folder: StateFolder, install: Install) -> None:
    """One request runs the tests, two wait for its report, and the others are busy."""
    install(HANGS)
    coordinator = make(folder)
    answers = request_concurrently(coordinator, 6, before_the_end=3)
    assert all(isinstance(answer, BusyError) for answer in answers[:3])
    answered = [answer for answer in answers if isinstance(answer, Answer)]
    assert len(answered) == 3
    assert len({answer.report.started_at for answer in answered}) == 1
    assert runs(coordinator) == 1


def test_answer__concurrent_requests_with_stored_result(
    folder: StateFolder, install: Install
) -> None:
    """Requests that may not wait get the stored result unless they require a fresher one."""
    install(HANGS)
    coordinator = make(folder, max_age=0.0)
    hanging.released.set()
    first = coordinator.answer(EVERYTHING, DEFAULT)
    answers = request_concurrently(coordinator, 6, before_the_end=3)
    stale = [a for a in answers if isinstance(a, Answer) and a.report == first.report]
    assert stale == answers[:3]
    assert all(answer.age > 0 for answer in stale)
    busy = request_concurrently(coordinator, 6, Freshness(max_age=0), before_the_end=3)
    assert [isinstance(answer, BusyError) for answer in busy] == 3 * [True] + 3 * [False]


def test_answer__stored_result_without_discovery(
    folder: StateFolder, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is answered from the store discovers no tests."""
    install(ONE_PASSES)
    coordinator = make(folder, max_age=0.0, waiting_locks=())
    stored = coordinator.answer(EVERYTHING, DEFAULT).report
    selections: list[Selection] = []
    find = loader.find
    monkeypatch.setattr(
        "smoketest.runner.loader.find", lambda *args: selections.append(args[0]) or find(*args)
    )
    with HostLock(folder, "run").held():
        assert coordinator.answer(EVERYTHING, DEFAULT).report == stored
        assert selections == []
    assert coordinator.answer(EVERYTHING, DEFAULT).report != stored
    assert selections == [EVERYTHING]


def test_answer__unknown_test(folder: StateFolder, install: Install) -> None:
    """An unknown test is an error at once, also while a run is in progress."""
    install(ONE_PASSES)
    coordinator = make(folder, waiting_locks=())
    coordinator.answer(EVERYTHING, DEFAULT)
    with HostLock(folder, "run").held(), pytest.raises(NothingSelectedError):
        coordinator.answer(Selection(names=("no.such.test",)), DEFAULT)


def test_answer__no_cache_starts_a_run(folder: StateFolder, install: Install) -> None:
    """no-cache does not accept a stored result or the run in progress."""
    install(HANGS)
    coordinator = make(folder)
    with run_in_progress(coordinator):
        requested_at = time.time()
        answer = coordinator.answer(EVERYTHING, NO_CACHE, listener=release_the_run)
    assert answer.report.started_at >= requested_at
    assert runs(coordinator) == 2


def test_answer__wait_times_out(
    folder: StateFolder, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that waits too long for a run is busy, and nothing is recorded."""
    install(ONE_PASSES)
    monkeypatch.setattr("smoketest.coordination.coordinator.GRACE", 0)
    coordinator = make(folder, options=options(run_timeout=0.2))
    release = HostLock(folder, "run").acquire()
    assert release
    with pytest.raises(BusyError):
        coordinator.answer(EVERYTHING, DEFAULT)
    release()
    assert runs(coordinator) == 0


EVERY = """
calls = []
class T(SmokeTest):
    @options(every=3600)
    def test_dear(self):
        calls.append("dear")
    def test_cheap(self):
        calls.append("cheap")
"""


def outcome_of(report: Report, method: str) -> tuple[Outcome, bool]:
    (result,) = (result for result in report.results if result.id.endswith(method))
    return result.outcome, result.carried


def test_answer__every(folder: StateFolder, install: Install) -> None:
    """A test whose ``every`` interval has not passed has a carried-over result."""
    install(EVERY)
    coordinator = make(folder, max_age=0.0)
    coordinator.answer(EVERYTHING, DEFAULT)
    second = coordinator.answer(EVERYTHING, DEFAULT).report
    assert outcome_of(second, "dear") == (Outcome.PASSED, True)
    assert outcome_of(second, "cheap") == (Outcome.PASSED, False)
    totals = {t.result.id: t.totals[Outcome.PASSED] for t in coordinator.store.snapshot().tests}
    assert totals == {"app0.smoke.T.test_dear": 1, "app0.smoke.T.test_cheap": 2}


def test_answer__every_ignored(folder: StateFolder, install: Install) -> None:
    """no-cache, a test selected by name, and the command ignore ``every``."""
    install(EVERY)
    coordinator = make(folder, max_age=0.0)
    coordinator.answer(EVERYTHING, DEFAULT)
    named = Selection(names=("app0.smoke.T.test_dear",))
    for report in (
        coordinator.answer(EVERYTHING, NO_CACHE).report,
        coordinator.answer(named, DEFAULT).report,
        coordinator.run(EVERYTHING, wait=1).report,
    ):
        assert outcome_of(report, "dear") == (Outcome.PASSED, False)


#: Seconds between regular runs.
INTERVAL = 60.0
RETRIES = [
    # Number of consecutive failures, age of the latest in seconds, whether it is retried.
    (0, 3590.0, False),
    (0, 3601.0, True),
    (1, 20.0, False),
    (1, 50.0, True),  # a run every 54 seconds, in which the test started 4 seconds earlier
    (2, 80.0, False),
    (2, 110.0, True),
    (3, 200.0, False),
    (3, 230.0, True),
    (7, 3590.0, False),
    (7, 3601.0, True),  # at most `every`
    (80, 3590.0, False),
    (80, 3601.0, True),
]


def has_failed(coordinator: Coordinator, failures: int, age: float) -> None:
    """Record results of the test of `EVERY` that does not run each time, the latest of this age."""
    suite = coordinator.find(EVERYTHING)
    (declaration,) = (one for one in suite.declarations if one.id.endswith("dear"))
    for _ in range(max(failures, 1)):
        outcome = Outcome.FAILED if failures else Outcome.PASSED
        result = make_result(outcome, declaration, started_at=time.time() - age)
        coordinator.store.record(make_report(result, started_at=time.time() - age))


@pytest.mark.parametrize(("failures", "age", "is_retried"), RETRIES)
@pytest.mark.parametrize("trigger", ["command", "scrape", "request with full access"])
def test_every__of_a_failing_test(
    folder: StateFolder,
    install: Install,
    failures: int,
    age: float,
    is_retried: bool,
    trigger: str,
) -> None:
    """A failing test is retried after 1, 2, 4, ... intervals, at most ``every``."""
    install(EVERY)
    coordinator = make(folder, max_age=0.0)
    has_failed(coordinator, failures, age)
    match trigger:
        case "command":
            coordinator.run(EVERYTHING, wait=1, interval=INTERVAL)
        case "scrape":
            coordinator.run_if_due(INTERVAL)
        case _:
            coordinator.answer(EVERYTHING, DEFAULT, interval=INTERVAL)
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    assert outcome_of(report, "dear")[1] is not is_retried
    assert outcome_of(report, "cheap") == (Outcome.PASSED, False)


@pytest.mark.parametrize("failures", [1, 7])
def test_every__of_a_failing_test_in_a_request(
    folder: StateFolder, install: Install, failures: int
) -> None:
    """A request without an interval retries none: a client could repeat a test that costs money."""
    install(EVERY)
    coordinator = make(folder, max_age=0.0)
    has_failed(coordinator, failures, 3590)
    report = coordinator.answer(EVERYTHING, DEFAULT).report
    assert outcome_of(report, "dear") == (Outcome.FAILED, True)


def test_run__waits_for_run_in_progress(folder: StateFolder, install: Install) -> None:
    """The command runs the tests after the run in progress, regardless of its result."""
    install(HANGS)
    coordinator = make(folder)
    with run_in_progress(coordinator):
        coordinator.run(EVERYTHING, wait=60, listener=release_the_run)
    assert runs(coordinator) == 2


def test_run__wait_times_out(folder: StateFolder, install: Install) -> None:
    """A wait that times out records nothing."""
    install(ONE_PASSES)
    coordinator = make(folder)
    with HostLock(folder, "run").held(), pytest.raises(BusyError):
        coordinator.run(EVERYTHING, wait=0.1)
    assert runs(coordinator) == 0


def test_run__store_error(
    folder: StateFolder, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store fails, the report is returned and an error is logged."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.run(EVERYTHING, wait=1)
    database = folder.path / "results.sqlite3"
    database.unlink()
    database.mkdir()
    assert coordinator.run(EVERYTHING, wait=1).report.passed
    assert coordinator.answer(EVERYTHING, DEFAULT).age == 0
    assert "The results store failed" in caplog.text


def test_run__log_and_signal(
    folder: StateFolder, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """Each problem is logged as a warning, and the report is sent with the signal."""
    install(
        """
        class T(SmokeTest):
            def test_bad(self):
                self.fail("the shop is shut")
            def test_good(self):
                pass
        """
    )
    received: list[Report] = []

    def receive(report: Report, **_: object) -> None:
        received.append(report)
        raise ValueError

    run_finished.connect(receive)
    try:
        report = make(folder).run(EVERYTHING, wait=1).report
    finally:
        run_finished.disconnect(receive)
    assert received == [report]
    messages = [
        (r.levelname, r.getMessage()) for r in caplog.records if r.name == "smoketest.problems"
    ]
    assert messages == [("WARNING", "app0.smoke.T.test_bad failed: the shop is shut")]
