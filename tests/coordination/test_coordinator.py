"""Who runs, who waits, and whom a stored result answers; with a real store and real locks."""

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


def answers_at_once(
    coordinator: Coordinator, count: int, freshness: Freshness = DEFAULT, *, before_the_end: int
) -> list[Answer | Exception]:
    """Ask from several threads and return the answers.

    The run of `HANGS` ends once so many answers are there. They come first in the list.
    """
    answers: list[Answer | Exception] = []
    barrier = threading.Barrier(count)
    hanging.reset()

    def ask() -> None:
        barrier.wait()
        try:
            answers.append(coordinator.answer(EVERYTHING, freshness))
        except BusyError as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
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
    """Start a run of `HANGS` on another thread, and wait for it at the end."""
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
    """End the run in progress once the caller has found that it must wait for it."""
    if isinstance(event, Waiting):
        hanging.assert_hanging()
        hanging.released.set()


def runs(coordinator: Coordinator) -> int:
    return sum(coordinator.store.snapshot().run_totals.values())


def test_answer__nothing_stored_runs(folder: StateFolder, install: Install) -> None:
    """The first to ask gets a run, recorded, of age 0."""
    install(ONE_PASSES)
    coordinator = make(folder)
    answer = coordinator.answer(EVERYTHING, DEFAULT)
    assert answer.report.passed
    assert answer.age == 0
    assert coordinator.store.latest_report(EVERYTHING, failfast=False) == answer.report


def test_answer__young_enough_is_not_run_again(folder: StateFolder, install: Install) -> None:
    """A stored result answers while it is younger than the greatest age, and says its age."""
    install(ONE_PASSES)
    coordinator = make(folder)
    first = coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.05)
    second = coordinator.answer(EVERYTHING, DEFAULT)
    assert second.report == first.report
    assert second.age >= 0.05
    assert runs(coordinator) == 1


@pytest.mark.parametrize("freshness", [Freshness(max_age=0.01), NO_CACHE])
def test_answer__request_asks_for_fresher(
    folder: StateFolder, install: Install, freshness: Freshness
) -> None:
    """A request's own max-age or no-cache overrides the site's."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.02)
    assert coordinator.answer(EVERYTHING, freshness).age == 0
    assert runs(coordinator) == 2


def test_answer__request_accepts_older(folder: StateFolder, install: Install) -> None:
    """A request's max-age may be greater than the site's."""
    install(ONE_PASSES)
    coordinator = make(folder, max_age=0.0)
    coordinator.answer(EVERYTHING, DEFAULT)
    time.sleep(0.01)
    assert coordinator.answer(EVERYTHING, Freshness(max_age=60)).age > 0
    assert runs(coordinator) == 1


def test_answer__result_of_older_code(folder: StateFolder, install: Install) -> None:
    """A run that began before this process had loaded its code says nothing of that code."""
    install(ONE_PASSES)
    make(folder).answer(EVERYTHING, DEFAULT)
    deployed = make(folder, code_loaded_at=time.time())
    with pytest.raises(NotStoredError):
        deployed.answer(EVERYTHING, Freshness(only_if_cached=True))
    assert deployed.answer(EVERYTHING, DEFAULT).age == 0


def test_answer__clock_was_set_back(folder: StateFolder, install: Install) -> None:
    """A result from the future would seem fresh for as long as the clock was set back."""
    install(ONE_PASSES)
    coordinator = make(folder)
    report = coordinator.answer(EVERYTHING, DEFAULT).report
    coordinator.store.record(replace(report, started_at=time.time() + 3600))
    assert coordinator.answer(EVERYTHING, DEFAULT).age == 0
    assert runs(coordinator) == 3


def test_answer__only_if_cached(folder: StateFolder, install: Install) -> None:
    """Only-if-cached takes any stored result, within max-age if it says one, and runs nothing."""
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


def test_answer__full_run_covers_a_filter(folder: StateFolder, install: Install) -> None:
    """A filtered request gets its part of a full run, and not the other way round."""
    install(ONE_PASSES + "    def test_two(self):\n        self.fail('no')\n")
    coordinator = make(folder)
    quick = Selection(tags=("quick",))
    assert coordinator.answer(quick, DEFAULT).report.passed
    assert not coordinator.answer(EVERYTHING, DEFAULT).report.passed
    narrowed = coordinator.answer(quick, DEFAULT)
    assert narrowed.age > 0
    assert [result.id for result in narrowed.report.results] == ["app0.smoke.T.test_one"]
    assert narrowed.report.passed


def test_answer__failfast_serves_those_who_asked_for_it(
    folder: StateFolder, install: Install
) -> None:
    """What fail-fast cut short is no answer for others."""
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


@pytest.mark.parametrize("selection", [EVERYTHING, Selection(names=("nobody",))])
def test_answer__nothing_selected(folder: StateFolder, selection: Selection) -> None:
    """A site without tests, and a filter that matches none, are no PASS."""
    with override_settings(INSTALLED_APPS=["smoketest"]):
        coordinator = make(folder)
        with pytest.raises(NothingSelectedError):
            coordinator.answer(selection, DEFAULT)
        with pytest.raises(NothingSelectedError):
            coordinator.run(selection, wait=1)
        assert runs(coordinator) == 0


def test_answer__filter_matches_nothing_of_the_stored_run(
    folder: StateFolder, install: Install
) -> None:
    """A fresh full run does not make a filter that matches nothing pass."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.answer(EVERYTHING, DEFAULT)
    with pytest.raises(NothingSelectedError):
        coordinator.answer(Selection(tags=("slow",)), DEFAULT)


def test_answer__crowd_shares_one_run(folder: StateFolder, install: Install) -> None:
    """One runs, two wait for it and get its report, and the others are told to come again."""
    install(HANGS)
    coordinator = make(folder)
    answers = answers_at_once(coordinator, 6, before_the_end=3)
    assert all(isinstance(answer, BusyError) for answer in answers[:3])
    answered = [answer for answer in answers if isinstance(answer, Answer)]
    assert len(answered) == 3
    assert len({answer.report.started_at for answer in answered}) == 1
    assert runs(coordinator) == 1


def test_answer__crowd_gets_what_is_stored(folder: StateFolder, install: Install) -> None:
    """Who may not wait gets the latest stored result, with its age, unless it asked for fresher."""
    install(HANGS)
    coordinator = make(folder, max_age=0.0)
    hanging.released.set()
    first = coordinator.answer(EVERYTHING, DEFAULT)
    answers = answers_at_once(coordinator, 6, before_the_end=3)
    stale = [a for a in answers if isinstance(a, Answer) and a.report == first.report]
    assert stale == answers[:3]
    assert all(answer.age > 0 for answer in stale)
    strict = answers_at_once(coordinator, 6, Freshness(max_age=0), before_the_end=3)
    assert [isinstance(answer, BusyError) for answer in strict] == 3 * [True] + 3 * [False]


def test_answer__from_the_store_looks_for_no_tests(
    folder: StateFolder, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a crowd costs the site as little as can be."""
    install(ONE_PASSES)
    coordinator = make(folder, max_age=0.0, waiting_locks=())
    stored = coordinator.answer(EVERYTHING, DEFAULT).report
    found: list[Selection] = []
    find = loader.find
    monkeypatch.setattr(
        "smoketest.runner.loader.find", lambda *args: found.append(args[0]) or find(*args)
    )
    with HostLock(folder, "run").held():
        assert coordinator.answer(EVERYTHING, DEFAULT).report == stored
        assert found == []
    assert coordinator.answer(EVERYTHING, DEFAULT).report != stored
    assert found == [EVERYTHING]


def test_answer__unknown_test_is_told_at_once(folder: StateFolder, install: Install) -> None:
    """However many wait for a run, and whatever is stored of the others."""
    install(ONE_PASSES)
    coordinator = make(folder, waiting_locks=())
    coordinator.answer(EVERYTHING, DEFAULT)
    with HostLock(folder, "run").held(), pytest.raises(NothingSelectedError):
        coordinator.answer(Selection(names=("no.such.test",)), DEFAULT)


def test_answer__no_cache_insists_on_a_run_after_it(folder: StateFolder, install: Install) -> None:
    """The run that goes on when no-cache is asked will not do, nor one that was stored before."""
    install(HANGS)
    coordinator = make(folder)
    with run_in_progress(coordinator):
        asked_at = time.time()
        answer = coordinator.answer(EVERYTHING, NO_CACHE, listener=release_the_run)
    assert answer.report.started_at >= asked_at
    assert runs(coordinator) == 2


def test_answer__run_takes_too_long_to_wait_for(
    folder: StateFolder, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits in vain is told so, and nothing is recorded."""
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


def test_answer__every_leaves_a_test_alone(folder: StateFolder, install: Install) -> None:
    """A test whose ``every`` has not passed carries its stored result into the report."""
    install(EVERY)
    coordinator = make(folder, max_age=0.0)
    coordinator.answer(EVERYTHING, DEFAULT)
    second = coordinator.answer(EVERYTHING, DEFAULT).report
    assert outcome_of(second, "dear") == (Outcome.PASSED, True)
    assert outcome_of(second, "cheap") == (Outcome.PASSED, False)
    totals = {t.result.id: t.totals[Outcome.PASSED] for t in coordinator.store.snapshot().tests}
    assert totals == {"app0.smoke.T.test_dear": 1, "app0.smoke.T.test_cheap": 2}


def test_answer__every_is_overruled(folder: StateFolder, install: Install) -> None:
    """No-cache, naming the test, and the command run it all the same."""
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


def test_run__waits_for_the_run_that_goes_on(folder: StateFolder, install: Install) -> None:
    """It runs after the other, however fresh that one's result is."""
    install(HANGS)
    coordinator = make(folder)
    with run_in_progress(coordinator):
        coordinator.run(EVERYTHING, wait=60, listener=release_the_run)
    assert runs(coordinator) == 2


def test_run__gives_up_waiting(folder: StateFolder, install: Install) -> None:
    """A wait that expires records nothing."""
    install(ONE_PASSES)
    coordinator = make(folder)
    with HostLock(folder, "run").held(), pytest.raises(BusyError):
        coordinator.run(EVERYTHING, wait=0.1)
    assert runs(coordinator) == 0


def test_run__store_fails(
    folder: StateFolder, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """The report is given although it could not be stored, and the log says so."""
    install(ONE_PASSES)
    coordinator = make(folder)
    coordinator.run(EVERYTHING, wait=1)
    database = folder.path / "results.sqlite3"
    database.unlink()
    database.mkdir()
    assert coordinator.run(EVERYTHING, wait=1).report.passed
    assert coordinator.answer(EVERYTHING, DEFAULT).age == 0
    assert "The results store failed" in caplog.text


def test_run__tells_the_rest_of_the_site(
    folder: StateFolder, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning in the log for each problem, and the signal with the report."""
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
