"""Runs that a scrape starts: when, how often, and what becomes of them; nothing here is faked."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep, time
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client, override_settings

from smoketest.coordination import background
from smoketest.coordination.coordinator import Coordinator
from smoketest.results import Outcome, Report, RunResult, Selection, StopReason
from smoketest.signals import run_finished
from smoketest.store import MemoryStore, Pause, ResultsStore, SharedStore
from smoketest.store.abandoned import AbandonedOnHost
from smoketest.store.directory import StateFolder
from smoketest.store.locks import HostLock
from tests import hanging
from tests.builders import make_report, make_result
from tests.conftest import EVERYTHING, Apps, connecting_receiver, options
from tests.servers.processes import wait_for

THREAD = "smoketest-background"
#: The default of the setting; a run is due 54 s after the one before began.
INTERVAL = 60.0
#: So short that a run is always due.
AT_ONCE = 0.001

ONE_PASSES = """
class T(SmokeTest):
    def test_one(self):
        pass
"""
#: Runs until it is released.
HANGS_HERE = """
from tests import hanging
class T(SmokeTest):
    def test_slow(self):
        hanging.hang()
"""
#: Says that it runs, and then does not end, where a variable says so.
HANGS = """
import os
class T(SmokeTest):
    timeout = 60
    def test_one(self):
        if "HANGS" in os.environ:
            os.write(1, b"running\\n")  # print would hold a lock that the end of a process wants
            time.sleep(60)
"""

#: A process of the same site, as far as the state folder and the apps go.
OTHER_PROCESS = """
import sys
import threading
from pathlib import Path
from django.conf import settings
import django
state, apps, *names = sys.argv[1:]
sys.path.insert(0, apps)
settings.configure(INSTALLED_APPS=["smoketest", "tests.ledger", *names], DATABASES={})
django.setup()
from smoketest.store.directory import StateFolder
from tests.coordination.test_background import make, start_if_due
start_if_due(make(StateFolder(Path(state), 0o600)), 60)
if threading.active_count() == 1:
    print("no run", flush=True)
sys.stdin.read()
"""
#: Coverage is not measured where a process is killed: its file would be left half written.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    "PYTHONPATH": os.pathsep.join(sys.path),
}


def make(folder: StateFolder, **changes: Any) -> Coordinator:
    """A coordinator of one process of the site whose state is in the folder."""
    coordinator = Coordinator(
        options=options(),
        store=SharedStore(folder),
        abandoned=AbandonedOnHost(folder),
        run_lock=HostLock(folder, "run"),
        waiting_locks=(),
        max_age=60.0,
        code_loaded_at=0.0,
    )
    return replace(coordinator, **changes)


def start_if_due(coordinator: Coordinator, interval: float) -> None:
    """Start a run as a scrape does."""
    if coordinator.is_due(interval):
        background.start(coordinator, interval)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    path = tmp_path / "state"
    path.mkdir()
    return StateFolder(path, 0o600)


@pytest.fixture
def coordinator(folder: StateFolder) -> Coordinator:
    return make(folder)


Install = Callable[[str], None]


@pytest.fixture
def install(apps: Apps) -> Iterator[Install]:
    """Install an app with this smoke module; no run outlives the test."""
    hanging.reset()
    overrides = []

    def install_app(smoke: str) -> None:
        apps.add(smoke)
        override = apps.installed()
        override.enable()
        overrides.append(override)

    yield install_app
    hanging.released.set()
    settle()
    for override in reversed(overrides):
        override.disable()


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@contextmanager
def counting_threads() -> Iterator[list[str]]:
    """The names of all threads that are started meanwhile, however short they live."""
    names: list[str] = []

    def begin(*_: object) -> None:
        sys.setprofile(None)
        names.append(threading.current_thread().name)

    threading.setprofile(begin)
    try:
        yield names
    finally:
        threading.setprofile(None)


def settle() -> None:
    """Wait for the run in the background to end, if there is one."""
    for thread in background_threads():
        thread.join(60)
        assert not thread.is_alive()


def start(coordinator: Coordinator, interval: float = INTERVAL) -> int:
    """Start a run if one is due, and wait for it; how many there have been since."""
    before = runs(coordinator.store)
    start_if_due(coordinator, interval)
    settle()
    return runs(coordinator.store) - before


def runs(store: ResultsStore) -> int:
    return sum(store.snapshot().run_totals.values())


def has_run(store: ResultsStore, ago: float, duration: float = 0.5) -> None:
    """All tests ran; the run began so many seconds ago."""
    began = time() - ago
    store.begin(began)
    store.record(make_report(make_result(), started_at=began, duration=duration))


@contextmanager
def another_process(
    folder: StateFolder, apps: Apps, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Another process of the site, with a run in the background; ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(folder.path), str(apps.folder), *apps.names],
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# When a run is due.


def test_start_if_due__nothing_has_run(coordinator: Coordinator, install: Install) -> None:
    """The first scrape of a new site starts a run, which is recorded as any other."""
    install(ONE_PASSES)
    began = time()
    assert start(coordinator) == 1
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    assert report.is_full
    assert report.passed
    attempt = coordinator.store.status().last_attempt_at
    assert attempt
    assert began <= attempt <= report.started_at


@pytest.mark.parametrize(
    ("ago", "is_due"), [(0.1, False), (53.9, False), (54.1, True), (7e6, True)]
)
def test_start_if_due__part_of_the_interval(
    coordinator: Coordinator,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    ago: float,
    is_due: bool,
) -> None:
    """A run is due nine tenths of the interval after the one before began."""
    install(ONE_PASSES)
    now = time()
    for module in ("smoketest.coordination.coordinator", __name__):
        monkeypatch.setattr(f"{module}.time", lambda: now)
    has_run(coordinator.store, ago)
    assert start(coordinator) == is_due


def test_start_if_due__not_due(coordinator: Coordinator, install: Install) -> None:
    """A scrape that comes too early costs no thread."""
    install(ONE_PASSES)
    has_run(coordinator.store, 1)
    with counting_threads() as names:
        assert start(coordinator) == 0
        assert names == []
        has_run(coordinator.store, 60)
        assert start(coordinator) == 1
    assert names.count(THREAD) == 1


def test_start_if_due__counts_from_the_start(coordinator: Coordinator, install: Install) -> None:
    """How long the run before took does not matter, only when it began."""
    install(ONE_PASSES)
    has_run(coordinator.store, 55, duration=50)
    assert start(coordinator) == 1
    assert start(coordinator) == 0


def test_start_if_due__filtered_run(coordinator: Coordinator, install: Install) -> None:
    """A run of some tests is no full run, however recent."""
    install(ONE_PASSES)
    has_run(coordinator.store, 55)
    coordinator.run(Selection(names=("app0",)), wait=1)
    assert start(coordinator) == 1


def test_start_if_due__run_cut_by_its_deadline(folder: StateFolder, install: Install) -> None:
    """A run that ran out of time counts as an attempt; it is not begun again at each scrape."""
    install(HANGS_HERE)
    coordinator = make(folder, options=options(run_timeout=0.1))
    assert start(coordinator) == 1
    hanging.assert_hanging()
    assert coordinator.store.snapshot().run_totals == {RunResult.ABORTED: 1}
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    assert report.stop_reason is StopReason.DEADLINE
    assert start(coordinator) == 0


@pytest.mark.parametrize(("ahead", "is_due"), [(3600, True), (0.5, False)])
def test_start_if_due__clock_was_set_back(
    coordinator: Coordinator, install: Install, ahead: float, is_due: bool
) -> None:
    """An attempt in the future does not stop the runs until then; a jitter starts none."""
    install(ONE_PASSES)
    has_run(coordinator.store, -ahead)
    assert start(coordinator) == is_due


def test_start_if_due__every_is_respected(coordinator: Coordinator, install: Install) -> None:
    """A test whose ``every`` has not passed is left alone, and its result is carried."""
    install(
        """
        class T(SmokeTest):
            @options(every=3600)
            def test_dear(self):
                pass
            def test_cheap(self):
                pass
        """
    )
    assert start(coordinator) == 1
    assert start(coordinator, AT_ONCE) == 1
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    carried = {result.id.rpartition("_")[2]: result.carried for result in report.results}
    assert carried == {"dear": True, "cheap": False}
    totals = {
        test.result.id.rpartition("_")[2]: test.totals[Outcome.PASSED]
        for test in coordinator.store.snapshot().tests
    }
    assert totals == {"dear": 1, "cheap": 2}


def test_run_if_due__not_due_any_more(coordinator: Coordinator, install: Install) -> None:
    """Who gets the lock after another has run does not run again."""
    install(ONE_PASSES)
    coordinator.run_if_due(INTERVAL)
    coordinator.run_if_due(INTERVAL)
    assert runs(coordinator.store) == 1


# When nothing starts.


def test_start_if_due__no_shared_store(folder: StateFolder, install: Install) -> None:
    """Without a store that the processes share, each would run for itself: none does."""
    install(ONE_PASSES)
    assert start(make(folder, store=MemoryStore())) == 0


def test_start_if_due__paused(coordinator: Coordinator, install: Install) -> None:
    """Nothing starts while an operator has paused the runs, and again when that is over."""
    install(ONE_PASSES)
    coordinator.store.pause(Pause(until=time() + 60, reason="moving"))
    assert start(coordinator) == 0
    coordinator.store.pause(Pause(until=time() - 0.1, reason="moved"))
    assert start(coordinator) == 1


@pytest.mark.parametrize("has_threads", [False, True])
def test_start_if_due__uwsgi_without_threads(
    coordinator: Coordinator,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    has_threads: bool,
) -> None:
    """Where no thread runs between requests none is started, and the log says what to do, once."""
    install(ONE_PASSES)
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=has_threads))
    background._log_missing_threads.cache_clear()
    with caplog.at_level(logging.ERROR, "smoketest"):
        assert start(coordinator) == has_threads
        assert start(coordinator, interval=INTERVAL) == 0
    assert caplog.text.count("--enable-threads") == (0 if has_threads else 1)


def test_start_if_due__no_tests(coordinator: Coordinator, install: Install) -> None:
    """A site without smoke tests has no runs, not even empty ones."""
    install("")
    assert start(coordinator) == 0
    assert coordinator.store.status().last_attempt_at is None


def test_start_if_due__store_cannot_be_read(
    coordinator: Coordinator, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing starts while nobody can tell what has run, and the log says so."""
    install(ONE_PASSES)
    assert start(coordinator) == 1
    database = Path(coordinator.store.location)
    database.unlink()
    database.mkdir()
    finished: list[Report] = []
    with listening(finished):
        start_if_due(coordinator, INTERVAL)
        settle()
    assert finished == []
    assert "The results store failed" in caplog.text


def test_start_if_due__store_cannot_be_written(coordinator: Coordinator, install: Install) -> None:
    """While the attempt cannot be written down, as on a full disk, scrapes start no run each."""
    install(ONE_PASSES)
    coordinator.store.status()
    with sqlite3.connect(coordinator.store.location) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    database.close()
    finished: list[Report] = []
    with listening(finished):
        for _ in range(5):
            start_if_due(coordinator, INTERVAL)
            settle()
    assert len(finished) <= 1


@contextmanager
def listening(finished: list[Report]) -> Iterator[None]:
    """Collect the reports of all runs, stored or not."""

    def receive(report: Report, **_: object) -> None:
        finished.append(report)

    run_finished.connect(receive)
    try:
        yield
    finally:
        run_finished.disconnect(receive)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1),
        ({"SMOKETEST_RUN_ON_SCRAPE": False}, 0),
        ({"SMOKETEST_INTERVAL": None}, 0),
    ],
)
def test_scrape__settings(
    folder: StateFolder, install: Install, changes: dict[str, Any], expected: int
) -> None:
    """A scrape starts a run unless the site does not want that, or expects no runs."""
    install(ONE_PASSES)
    with override_settings(SMOKETEST_STATE_DIR=str(folder.path), **changes):
        assert Client().get("/smoketest/metrics").status_code == 200
        settle()
    assert runs(SharedStore(folder)) == expected


# One at a time, and nobody waits.


def test_start_if_due__returns_at_once(coordinator: Coordinator, install: Install) -> None:
    """Whoever starts a run does not wait for it."""
    install(HANGS_HERE)
    start_if_due(coordinator, INTERVAL)
    hanging.assert_hanging()
    assert runs(coordinator.store) == 0
    hanging.released.set()
    settle()
    assert runs(coordinator.store) == 1


def test_start_if_due__many_at_once(folder: StateFolder, install: Install) -> None:
    """Twenty scrapes at the same moment start one run."""
    install(HANGS_HERE)
    barrier = threading.Barrier(20)

    def scrape() -> None:
        coordinator = make(folder)
        barrier.wait()
        start_if_due(coordinator, INTERVAL)

    threads = [threading.Thread(target=scrape) for _ in range(20)]
    with counting_threads() as names:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hanging.assert_hanging()
        hanging.released.set()
        settle()
    assert names.count(THREAD) == 1
    assert runs(SharedStore(folder)) == 1


def test_start_if_due__own_run_goes_on(coordinator: Coordinator, install: Install) -> None:
    """A run that takes longer than the interval is not joined by a second thread."""
    install(HANGS_HERE)
    with counting_threads() as names:
        for _ in range(3):
            start_if_due(coordinator, AT_ONCE)
            wait_for(lambda: coordinator.store.status().last_attempt_at, what="the run")
            sleep(0.02)  # until another is due
        hanging.assert_hanging()
        hanging.released.set()
        settle()
    assert names.count(THREAD) == 1
    assert runs(coordinator.store) == 1


def test_start_if_due__a_request_runs(coordinator: Coordinator, install: Install) -> None:
    """Nothing starts, and nothing waits, while the run lock is held in this process."""
    install(ONE_PASSES)
    with coordinator.run_lock.held() as is_ours:
        assert is_ours
        began = monotonic()
        assert start(coordinator) == 0
        assert monotonic() - began < 20
    assert coordinator.store.status().last_attempt_at is None
    assert start(coordinator) == 1


def test_start_if_due__another_process_runs(
    folder: StateFolder, coordinator: Coordinator, install: Install, apps: Apps
) -> None:
    """Nothing starts while another process runs, however long ago that began."""
    install(HANGS)
    with another_process(folder, apps, HANGS="1") as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        began = coordinator.store.status().last_attempt_at
        assert start(coordinator, AT_ONCE) == 0
        assert coordinator.store.status().last_attempt_at == began


# What may happen to it.


def test_start_if_due__killed_in_the_middle(
    folder: StateFolder,
    coordinator: Coordinator,
    install: Install,
    apps: Apps,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that dies with its process is retried when the next is due, and counts as aborted."""
    install(HANGS)
    before = time()
    with another_process(folder, apps, HANGS="1") as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.kill()
        process.wait()
    attempt = coordinator.store.status().last_attempt_at
    assert attempt
    assert before <= attempt <= time()
    assert start(coordinator) == 0, "begun again at once: a run that kills would never stop"
    assert coordinator.store.status().last_attempt_at == attempt
    caplog.clear()
    assert start(coordinator, AT_ONCE) == 2
    assert coordinator.store.snapshot().run_totals == {RunResult.ABORTED: 1, RunResult.PASSED: 1}
    (record,) = (record for record in caplog.records if record.name == "smoketest")
    assert record.levelno == logging.WARNING
    assert "The run that started at 20" in record.getMessage()
    assert start(coordinator, AT_ONCE) == 1, "counted as aborted once, not at each run"


def test_start_if_due__process_ends(folder: StateFolder, install: Install, apps: Apps) -> None:
    """A worker that ends does not wait for a run that hangs."""
    install(HANGS)
    with another_process(folder, apps, HANGS="1") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.stdin.close()
        assert process.wait(30) == 0  # the run would take 60 s


def test_start_if_due__error(
    folder: StateFolder, tmp_path: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong on the thread is in the log, and the next scrape tries again."""
    install(ONE_PASSES)
    elsewhere = StateFolder(tmp_path / "elsewhere", 0o600)
    coordinator = make(folder, run_lock=HostLock(elsewhere, "run"))
    assert start(coordinator) == 0
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("smoketest", logging.ERROR)
    assert "background run" in record.getMessage()
    assert record.exc_info
    elsewhere.path.mkdir()
    assert start(coordinator) == 1


@pytest.mark.django_db(transaction=True)
def test_start_if_due__connections_of_the_thread(
    coordinator: Coordinator, install: Install
) -> None:
    """What a receiver of the signal opened is closed: no request's end does so on this thread."""
    install(ONE_PASSES)
    with connecting_receiver() as opened:
        assert start(coordinator) == 1
    (connection,) = opened
    assert connection.connection is None


# What starts no run.

STARTS_NO_RUN = """
import importlib
import pkgutil
import sys
import threading
from io import StringIO
import django
import smoketest
for module in pkgutil.walk_packages(smoketest.__path__, "smoketest."):
    # What has an optional dependency, or is made for the settings of a site that uses it.
    others = ("smoketest.exporters.django_prometheus", "smoketest.cli.live", "smoketest.contrib.")
    if not module.name.startswith(others):
        importlib.import_module(module.name)
django.setup()
from django.core.management import call_command
for command in (
    ["check"],
    ["check", "--deploy"],
    ["migrate", "--plan"],
    ["showmigrations"],
    ["diffsettings"],
):
    call_command(*command, stdout=StringIO(), stderr=StringIO())
from django.urls import get_resolver, reverse
get_resolver().url_patterns, reverse("smoketest:metrics")
print([thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
"""


def test_import__starts_no_run(folder: StateFolder, tmp_path: Path, apps: Apps) -> None:
    """Imports, django.setup() and management commands start no run, and no thread."""
    ran = tmp_path / "ran"
    name = apps.add(
        f"""
        from pathlib import Path
        class T(SmokeTest):
            def test_one(self):
                Path({str(ran)!r}).touch()
        """
    )
    (apps.folder / "site_settings.py").write_text(
        dedent(
            f"""
            from tests.settings import *
            INSTALLED_APPS = [*INSTALLED_APPS, {name!r}]
            SMOKETEST_STATE_DIR = {str(folder.path)!r}
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", STARTS_NO_RUN],
        env={
            **ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join([str(apps.folder), *sys.path]),
            "DJANGO_SETTINGS_MODULE": "site_settings",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert not ran.exists()
    store = SharedStore(folder)
    assert runs(store) == 0
    assert store.status().last_attempt_at is None
