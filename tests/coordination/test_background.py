"""Background runs that a scrape starts."""

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
#: The default of SMOKETEST_INTERVAL. A run is due 54 s after the previous one started.
INTERVAL = 60.0
#: An interval so short that a run is always due.
ALWAYS_DUE = 0.001

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
#: Reports that it runs and then hangs if an environment variable is set.
HANGS = """
import os
class T(SmokeTest):
    timeout = 60
    def test_one(self):
        if "HANGS" in os.environ:
            os.write(1, b"running\\n")  # print() would hold a lock needed at exit
            time.sleep(60)
"""

#: Waits until the process has begun to exit, and then starts a thread of an executor.
WAITS_FOR_EXIT = """
import logging
import os
import threading
from asgiref.sync import sync_to_async
exiting = threading.Event()
class Handler(logging.Handler):
    def emit(self, record):
        exiting.set()
class T(SmokeTest):
    timeout = 60
    async def test_one(self):
        logger = logging.getLogger("smoketest")
        logger.setLevel(logging.INFO)
        logger.addHandler(Handler())
        os.write(1, b"running\\n")  # print() would hold a lock needed at exit
        while not exiting.is_set():
            time.sleep(0.01)
        await sync_to_async(time.sleep, thread_sensitive=False)(0)
"""

#: A process of the same site, with the same state directory and apps.
OTHER_PROCESS = """
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from django.conf import settings
import django
state, apps, *names = sys.argv[1:]
sys.path.insert(0, apps)
settings.configure(INSTALLED_APPS=["smoketest", "tests.ledger", *names], DATABASES={})
django.setup()
from smoketest.store.directory import StateFolder
from tests.coordination.test_background import make_coordinator, start_if_due
coordinator = make_coordinator(StateFolder(Path(state), 0o600))
run_timeout = float(os.environ.get("RUN_TIMEOUT", 240))
options = replace(coordinator.options, run_timeout=run_timeout)
start_if_due(replace(coordinator, options=options), 60)
if threading.active_count() == 1:
    print("no run", flush=True)
sys.stdin.read()
"""
#: Coverage is not measured in processes that are killed: their data files would be incomplete.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    "PYTHONPATH": os.pathsep.join(sys.path),
}


def make_coordinator(folder: StateFolder, **changes: Any) -> Coordinator:
    """Return the coordinator of a process whose site has this state directory."""
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
    return make_coordinator(folder)


Install = Callable[[str], None]


@pytest.fixture
def install(apps: Apps) -> Iterator[Install]:
    """Install an app with this smoke module; wait for its runs after the test."""
    hanging.reset()
    overrides = []

    def install_app(smoke: str) -> None:
        apps.add(smoke)
        override = apps.installed()
        override.enable()
        overrides.append(override)

    yield install_app
    hanging.released.set()
    wait_for_background_run()
    for override in reversed(overrides):
        override.disable()


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@contextmanager
def record_thread_names() -> Iterator[list[str]]:
    """Collect the names of all threads that start in the context."""
    names: list[str] = []

    def begin(*_: object) -> None:
        sys.setprofile(None)
        names.append(threading.current_thread().name)

    threading.setprofile(begin)
    try:
        yield names
    finally:
        threading.setprofile(None)


def wait_for_background_run() -> None:
    for thread in background_threads():
        thread.join(60)
        assert not thread.is_alive()


def start(coordinator: Coordinator, interval: float = INTERVAL) -> int:
    """Start a run if one is due, wait for it and return the number of runs since."""
    before = runs(coordinator.store)
    start_if_due(coordinator, interval)
    wait_for_background_run()
    return runs(coordinator.store) - before


def runs(store: ResultsStore) -> int:
    return sum(store.snapshot().run_totals.values())


def record_run(store: ResultsStore, ago: float, duration: float = 0.5) -> None:
    """Record a full run that started `ago` seconds ago."""
    began = time() - ago
    store.begin(began)
    store.record(make_report(make_result(), started_at=began, duration=duration))


@contextmanager
def another_process(
    folder: StateFolder, apps: Apps, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start another process of the site with a background run."""
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


# Due runs


def test_start_if_due__empty_store(coordinator: Coordinator, install: Install) -> None:
    """The first scrape of a new site starts and records a run."""
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
def test_start_if_due__time_since_last_start(
    coordinator: Coordinator,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    ago: float,
    is_due: bool,
) -> None:
    """A run is due after 90 % of the interval since the previous start."""
    install(ONE_PASSES)
    now = time()
    for module in ("smoketest.coordination.coordinator", __name__):
        monkeypatch.setattr(f"{module}.time", lambda: now)
    record_run(coordinator.store, ago)
    assert start(coordinator) == is_due


def test_start_if_due__not_due(coordinator: Coordinator, install: Install) -> None:
    """If no run is due, no thread is started."""
    install(ONE_PASSES)
    record_run(coordinator.store, 1)
    with record_thread_names() as names:
        assert start(coordinator) == 0
        assert names == []
        record_run(coordinator.store, 60)
        assert start(coordinator) == 1
    assert names.count(THREAD) == 1


def test_start_if_due__measured_from_start(coordinator: Coordinator, install: Install) -> None:
    """The duration of the previous run does not matter."""
    install(ONE_PASSES)
    record_run(coordinator.store, 55, duration=50)
    assert start(coordinator) == 1
    assert start(coordinator) == 0


def test_start_if_due__filtered_run(coordinator: Coordinator, install: Install) -> None:
    """A filtered run does not postpone the next full run."""
    install(ONE_PASSES)
    record_run(coordinator.store, 55)
    coordinator.run(Selection(names=("app0",)), wait=1)
    assert start(coordinator) == 1


def test_start_if_due__run_stopped_by_deadline(folder: StateFolder, install: Install) -> None:
    """A run that timed out counts as an attempt and is not repeated before the next interval."""
    install(HANGS_HERE)
    coordinator = make_coordinator(folder, options=options(run_timeout=0.1))
    assert start(coordinator) == 1
    hanging.assert_hanging()
    assert coordinator.store.snapshot().run_totals == {RunResult.ABORTED: 1}
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    assert report.stop_reason is StopReason.DEADLINE
    assert start(coordinator) == 0


@pytest.mark.parametrize(("ahead", "is_due"), [(3600, True), (0.5, False)])
def test_start_if_due__clock_set_back(
    coordinator: Coordinator, install: Install, ahead: float, is_due: bool
) -> None:
    """An attempt in the far future is ignored; a small clock difference is not."""
    install(ONE_PASSES)
    record_run(coordinator.store, -ahead)
    assert start(coordinator) == is_due


def test_start_if_due__every(coordinator: Coordinator, install: Install) -> None:
    """A test whose ``every`` interval has not passed does not run; its result is carried over."""
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
    assert start(coordinator, ALWAYS_DUE) == 1
    report = coordinator.store.latest_report(EVERYTHING, failfast=False)
    assert report
    carried = {result.id.rpartition("_")[2]: result.carried for result in report.results}
    assert carried == {"dear": True, "cheap": False}
    totals = {
        test.result.id.rpartition("_")[2]: test.totals[Outcome.PASSED]
        for test in coordinator.store.snapshot().tests
    }
    assert totals == {"dear": 1, "cheap": 2}


def test_run_if_due__checked_again_with_the_lock(
    coordinator: Coordinator, install: Install
) -> None:
    """After acquiring the lock, a run starts only if it is still due."""
    install(ONE_PASSES)
    coordinator.run_if_due(INTERVAL)
    coordinator.run_if_due(INTERVAL)
    assert runs(coordinator.store) == 1


# Conditions that prevent a run


def test_start_if_due__no_shared_store(folder: StateFolder, install: Install) -> None:
    """Without a shared store, no run starts, because each process would start its own."""
    install(ONE_PASSES)
    assert start(make_coordinator(folder, store=MemoryStore())) == 0


def test_start_if_due__paused(coordinator: Coordinator, install: Install) -> None:
    """No run starts during a pause."""
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
    """Without thread support in uWSGI, no thread starts, and the log explains it once."""
    install(ONE_PASSES)
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=has_threads))
    background._log_missing_threads.cache_clear()
    with caplog.at_level(logging.ERROR, "smoketest"):
        assert start(coordinator) == has_threads
        assert start(coordinator, interval=INTERVAL) == 0
    assert caplog.text.count("--enable-threads") == (0 if has_threads else 1)


def test_start_if_due__no_tests(coordinator: Coordinator, install: Install) -> None:
    """A site without smoke tests has no runs."""
    install("")
    assert start(coordinator) == 0
    assert coordinator.store.status().last_attempt_at is None


def test_start_if_due__store_not_readable(
    coordinator: Coordinator, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store cannot be read, no run starts and an error is logged."""
    install(ONE_PASSES)
    assert start(coordinator) == 1
    database = Path(coordinator.store.location)
    database.unlink()
    database.mkdir()
    finished: list[Report] = []
    with collect_reports(finished):
        start_if_due(coordinator, INTERVAL)
        wait_for_background_run()
    assert finished == []
    assert "The results store failed" in caplog.text


def test_start_if_due__store_not_writable(coordinator: Coordinator, install: Install) -> None:
    """If the attempt cannot be stored, as on a full disk, not every scrape starts a run."""
    install(ONE_PASSES)
    coordinator.store.status()
    with sqlite3.connect(coordinator.store.location) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    database.close()
    finished: list[Report] = []
    with collect_reports(finished):
        for _ in range(5):
            start_if_due(coordinator, INTERVAL)
            wait_for_background_run()
    assert len(finished) <= 1


@contextmanager
def collect_reports(finished: list[Report]) -> Iterator[None]:
    """Collect the reports of all runs, including those that are not stored."""

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
    """SMOKETEST_RUN_ON_SCRAPE and SMOKETEST_INTERVAL control whether a scrape starts a run."""
    install(ONE_PASSES)
    with override_settings(SMOKETEST_STATE_DIR=str(folder.path), **changes):
        assert Client().get("/smoketest/metrics").status_code == 200
        wait_for_background_run()
    assert runs(SharedStore(folder)) == expected


# Concurrency


def test_start_if_due__does_not_block(coordinator: Coordinator, install: Install) -> None:
    install(HANGS_HERE)
    start_if_due(coordinator, INTERVAL)
    hanging.assert_hanging()
    assert runs(coordinator.store) == 0
    hanging.released.set()
    wait_for_background_run()
    assert runs(coordinator.store) == 1


def test_start_if_due__concurrent_scrapes(folder: StateFolder, install: Install) -> None:
    """Concurrent scrapes start a single run."""
    install(HANGS_HERE)
    barrier = threading.Barrier(20)

    def scrape() -> None:
        coordinator = make_coordinator(folder)
        barrier.wait()
        start_if_due(coordinator, INTERVAL)

    threads = [threading.Thread(target=scrape) for _ in range(20)]
    with record_thread_names() as names:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hanging.assert_hanging()
        hanging.released.set()
        wait_for_background_run()
    assert names.count(THREAD) == 1
    assert runs(SharedStore(folder)) == 1


def test_start_if_due__run_in_progress(coordinator: Coordinator, install: Install) -> None:
    """A run that takes longer than the interval is not started twice."""
    install(HANGS_HERE)
    with record_thread_names() as names:
        for _ in range(3):
            start_if_due(coordinator, ALWAYS_DUE)
            wait_for(lambda: coordinator.store.status().last_attempt_at, what="the run")
            sleep(0.02)  # until another run is due
        hanging.assert_hanging()
        hanging.released.set()
        wait_for_background_run()
    assert names.count(THREAD) == 1
    assert runs(coordinator.store) == 1


def test_start_if_due__run_lock_held_by_a_request(
    coordinator: Coordinator, install: Install
) -> None:
    """While a request holds the run lock, no run starts and the caller does not wait."""
    install(ONE_PASSES)
    with coordinator.run_lock.held() as is_ours:
        assert is_ours
        began = monotonic()
        assert start(coordinator) == 0
        assert monotonic() - began < 20
    assert coordinator.store.status().last_attempt_at is None
    assert start(coordinator) == 1


def test_start_if_due__run_lock_held_by_another_process(
    folder: StateFolder, coordinator: Coordinator, install: Install, apps: Apps
) -> None:
    """While another process runs the tests, no run starts, regardless of its duration."""
    install(HANGS)
    with another_process(folder, apps, HANGS="1") as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        began = coordinator.store.status().last_attempt_at
        assert start(coordinator, ALWAYS_DUE) == 0
        assert coordinator.store.status().last_attempt_at == began


# Failures


def test_start_if_due__killed_process(
    folder: StateFolder,
    coordinator: Coordinator,
    install: Install,
    apps: Apps,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run whose process was killed counts as aborted once and is repeated when due."""
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
    assert start(coordinator) == 0, "the run must not be repeated before it is due"
    assert coordinator.store.status().last_attempt_at == attempt
    caplog.clear()
    assert start(coordinator, ALWAYS_DUE) == 2
    assert coordinator.store.snapshot().run_totals == {RunResult.ABORTED: 1, RunResult.PASSED: 1}
    (record,) = (record for record in caplog.records if record.name == "smoketest")
    assert record.levelno == logging.WARNING
    assert "The run that started at 20" in record.getMessage()
    assert start(coordinator, ALWAYS_DUE) == 1, "the lost run must be counted once"


def test_start_if_due__process_exits(
    folder: StateFolder, coordinator: Coordinator, install: Install, apps: Apps
) -> None:
    """A process that exits finishes its background run."""
    install(WAITS_FOR_EXIT)
    with another_process(folder, apps) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.stdin.close()
        assert process.wait(60) == 0
    assert coordinator.store.snapshot().run_totals == {RunResult.PASSED: 1}


def test_start_if_due__process_exits_while_a_run_hangs(
    folder: StateFolder, install: Install, apps: Apps
) -> None:
    """A process that exits waits no longer than the deadline of the run."""
    install(HANGS)
    with another_process(folder, apps, HANGS="1", RUN_TIMEOUT="1") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.stdin.close()
        assert process.wait(50) == 0  # the test would take 60 s
    assert SharedStore(folder).snapshot().run_totals == {RunResult.ABORTED: 1}


def test_start_if_due__exception(
    folder: StateFolder, tmp_path: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the thread is logged, and the next scrape starts a run again."""
    install(ONE_PASSES)
    elsewhere = StateFolder(tmp_path / "elsewhere", 0o600)
    coordinator = make_coordinator(folder, run_lock=HostLock(elsewhere, "run"))
    assert start(coordinator) == 0
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("smoketest", logging.ERROR)
    assert "background run" in record.getMessage()
    assert record.exc_info
    elsewhere.path.mkdir()
    assert start(coordinator) == 1


@pytest.mark.django_db(transaction=True)
def test_start_if_due__closes_connections(coordinator: Coordinator, install: Install) -> None:
    """Connections that a signal receiver opens in the thread are closed."""
    install(ONE_PASSES)
    with connecting_receiver() as opened:
        assert start(coordinator) == 1
    (connection,) = opened
    assert connection.connection is None


# No runs at import

STARTS_NO_RUN = """
import importlib
import pkgutil
import sys
import threading
from io import StringIO
import django
import smoketest
for module in pkgutil.walk_packages(smoketest.__path__, "smoketest."):
    # These modules require optional dependencies or settings.
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


def test_import__starts_no_thread(folder: StateFolder, tmp_path: Path, apps: Apps) -> None:
    """Imports, django.setup() and management commands start no thread and no run."""
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
