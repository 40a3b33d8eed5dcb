"""Threads, timeouts and deadlines of a run, with threads that hang."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.test import override_settings

from smoketest.results import Outcome, Report, Result, StopReason, utc
from smoketest.runner import supervisor
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests import hanging
from tests.conftest import EVERYTHING, Apps, RunSmoke, options, outcomes, result_of
from tests.hanging import HANG, Clock, assert_hanging
from tests.ledger.models import Account

uses_databases = pytest.mark.django_db(transaction=True, databases="__all__")

#: Maximum duration of a run that does not wait for hanging code, in seconds.
MAX_DURATION = HANG / 2

#: Names of the threads that closed a cache.
closed_caches: list[str] = []


class RecordingCache(LocMemCache):
    """A cache that records the thread that closes it after a delay."""

    def close(self, **_: Any) -> None:
        time.sleep(0.2)
        closed_caches.append(threading.current_thread().name)


def smoke_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("smoketest-")]


def release_all() -> None:
    """Release all hanging code and wait for its threads."""
    hanging.released.set()
    for thread in smoke_threads():
        thread.join(60)
    assert not smoke_threads()


@pytest.fixture(autouse=True)
def _released(
    apps: Apps,  # noqa: ARG001 - torn down before the apps
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    # A run waits for its threads, also on a slow machine.
    monkeypatch.setattr(supervisor, "CLOSE_TIMEOUT", 60.0)
    hanging.reset()
    closed_caches.clear()
    yield
    release_all()


class Site:
    """A site whose suite one process runs repeatedly."""

    #: The site of the current test, for use by its smoke tests.
    current: Site

    def __init__(self, apps: Apps) -> None:
        self.apps = apps
        self.abandoned = LocallyAbandoned()
        Site.current = self

    def run(
        self,
        *,
        failfast: bool = False,
        carried: Mapping[str, Result] | None = None,
        **changes: object,
    ) -> Report:
        with self.apps.installed():
            suite = find(EVERYTHING, options(**changes))
            return run(
                suite,
                EVERYTHING,
                options(**changes),
                abandoned=self.abandoned,
                carried=carried or {},
                failfast=failfast,
            )


@pytest.fixture
def site(apps: Apps) -> Site:
    return Site(apps)


IMPORT_HANG = "from tests.hanging import hang, hang_while\n"


# Threads


def test_classes__run_in_parallel(run_smoke: RunSmoke) -> None:
    """Two classes run in parallel; the tests of each run in order in one thread."""
    report = run_smoke("""
        import threading

        seen = []
        both = threading.Barrier(2)

        class One(SmokeTest):
            @classmethod
            def setUpClass(cls): cls.thread = threading.get_ident()

            def setUp(self): self.assertEqual(threading.get_ident(), self.thread)

            def test_b(self): seen.append("b")
            def test_a(self):
                both.wait(60)
                seen.append("a")

        class Two(SmokeTest):
            def test_c(self): both.wait(60)
    """)
    assert set(outcomes(report).values()) == {"passed"}
    assert sys.modules["app0.smoke"].seen == ["a", "b"]
    assert list(outcomes(report)) == ["test_a", "test_b", "test_c"]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers__limit(run_smoke: RunSmoke, workers: int) -> None:
    """Exactly as many classes run in parallel as there are workers."""
    classes = "".join(
        f"class Test{n}(SmokeTest):\n    def test_{n}(self): overlap()\n" for n in range(4)
    )
    source = (
        "import threading\nactive, most, lock = 0, 0, threading.Lock()\n"
        "as_many = threading.Event()\n"
        "def overlap():\n"
        "    global active, most\n"
        "    with lock:\n        active += 1\n        most = max(most, active)\n"
        f"    if most >= {workers}:\n        as_many.set()\n"
        "    assert as_many.wait(60)\n"
        "    time.sleep(0.1)  # one worker too many would start here\n"
        "    with lock:\n        active -= 1\n"
    )
    report = run_smoke(source + classes, workers=workers)
    assert report.count(Outcome.PASSED) == 4
    assert sys.modules["app0.smoke"].most == workers


def test_threads__end_with_the_run(run_smoke: RunSmoke) -> None:
    """No thread of discovery or of a worker remains after a run."""
    run_smoke("class Test(SmokeTest):\n    def test_it(self): pass")
    assert smoke_threads() == []


def open_databases() -> list[str]:
    """Return the database files that this process has open, once per descriptor."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(link.readlink()))
        except OSError:  # the descriptor of the listing itself
            continue
    return sorted(target for target in targets if ".sqlite3" in target)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="requires /proc/self/fd")


@needs_proc
@uses_databases
@pytest.mark.parametrize("workers", [0, 2])
def test_connections__are_closed(run_smoke: RunSmoke, workers: int) -> None:
    """The connections of a run are closed at its end."""
    connections.close_all()
    report = run_smoke(
        """
        from tests.runner.test_supervisor import open_databases

        class One(SmokeTest):
            def test_1(self):
                Account.objects.create(name="one")
                self.assertEqual(len(open_databases()), 1)

        class Two(SmokeTest):
            @classmethod
            def setUpClass(cls): Account.objects.using("other").create(name="two")
            def test_2(self): pass
        """,
        workers=workers,
    )
    assert result_of(report, "test_2").outcome == "passed"
    assert open_databases() == []


@pytest.mark.parametrize(("workers", "thread"), [(1, "smoketest-0"), (0, "MainThread")])
def test_caches__are_closed(apps: Apps, site: Site, workers: int, thread: str) -> None:
    """Each thread closes the caches that its tests used, as Django does after a request."""
    apps.add("class Test(SmokeTest):\n    def test_it(self): cache.get('x')")
    backend = {"default": {"BACKEND": "tests.runner.test_supervisor.RecordingCache"}}
    with override_settings(CACHES=backend):
        assert site.run(workers=workers).passed
    assert closed_caches == [thread]


@uses_databases
def test_inline__restores_connections(run_smoke: RunSmoke) -> None:
    """Without workers, the connections of the calling thread are restored after the run."""
    used, connections["default"].connection = connections["default"], None
    used.ensure_connection()
    driver = used.connection
    del connections["other"]
    report = run_smoke(
        """
        import threading

        class Test(SmokeTest):
            def test_it(self):
                self.assertIs(threading.current_thread(), threading.main_thread())
                Account.objects.create(name="inline")
                Account.objects.using("other").create(name="inline")
        """,
        workers=0,
    )
    assert outcomes(report) == {"test_it": "passed"}
    assert connections["default"] is used
    assert used.connection is driver
    assert not used.in_atomic_block
    assert "other" not in {c.alias for c in connections.all(initialized_only=True)}


# Timeouts

#: Only the hanging test has a short timeout; the others must pass on a slow machine.
HANGS = {
    "test": "@options(timeout=0.2)\n    def test_1(self): hang()",
    "async test": "@options(timeout=0.2)\n    async def test_1(self): hang()",
    "sleep": "@options(timeout=0.2)\n    def test_1(self): hang_while(lambda: time.sleep(0.2))",
    "setUp": (
        "def setUp(self): self.hang_in('test_1')\n"
        "    @options(timeout=0.2)\n    def test_1(self): pass"
    ),
    "tearDown": (
        "def tearDown(self): self.hang_in('test_1')\n"
        "    @options(timeout=0.2)\n    def test_1(self): pass"
    ),
    "cleanup": "@options(timeout=0.2)\n    def test_1(self): self.addCleanup(lambda: hang())",
    "busy": "@options(timeout=0.2)\n    def test_1(self): hang_while(int)",
    "swallowing": (
        "@options(timeout=0.2)\n    def test_1(self):\n"
        "        def doing():\n"
        "            try: time.sleep(0.01)\n"
        "            except BaseException: pass\n"
        "        hang_while(doing)"
    ),
}


@pytest.mark.parametrize("case", HANGS)
def test_timeout__hanging_test(run_smoke: RunSmoke, case: str) -> None:
    """A test that hangs anywhere times out, and the rest of its class runs."""
    report = run_smoke(
        f"""{IMPORT_HANG}
class Test(SmokeTest):
    def hang_in(self, name):
        if self._testMethodName == name:
            hang()

    {HANGS[case]}

    def test_2(self): pass
    def test_3(self): self.fail()
"""
    )
    assert_hanging()
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "passed", "test_3": "failed"}
    result = result_of(report, "test_1")
    assert result.message == "timed out after 0.2 s"
    assert result.traceback.startswith("Stack when it timed out (most recent call last):")
    if case != "async test":  # its code is on the thread of an event loop
        assert "smoke.py" in result.traceback
    assert 0.2 <= result.duration < MAX_DURATION
    assert report.duration < MAX_DURATION
    assert report.stop_reason is StopReason.NONE


def test_timeout__precedence(run_smoke: RunSmoke) -> None:
    """The timeout of a method precedes that of its class, which precedes that of the site."""
    report = run_smoke(
        IMPORT_HANG
        + """
class Test(SmokeTest):
    timeout = 50

    @options(timeout=0.1)
    def test_1(self): hang()
    def test_2(self): time.sleep(0.25)
""",
        timeout=0.1,
    )
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "passed"}
    assert_hanging()


def test_timeout__c_code_holding_the_gil(run_smoke: RunSmoke) -> None:
    """A test that holds the GIL beyond its timeout is reported as timed out afterwards."""
    report = run_smoke(
        """
        import ctypes, sys
        class Test(SmokeTest):
            @options(timeout=0.2)
            def test_1(self):
                time.sleep(0.05)  # until the supervisor waits
                sys.setswitchinterval(5)  # so that this thread keeps the GIL
                ctypes.PyDLL(None).usleep(700_000)  # without releasing the GIL
            def test_2(self): pass
        """,
    )
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "passed"}
    assert 0.7 <= report.duration < MAX_DURATION


def test_timeout__late_outcome_is_ignored(apps: Apps, site: Site) -> None:
    """The outcome of a timed-out test is ignored, also while the run is in progress."""
    apps.add("""
        from tests.hanging import hang, released
        from tests.servers.processes import wait_for
        from tests.runner.test_supervisor import Site

        class Late(SmokeTest):
            timeout = 0.1

            def test_1(self): hang()
            def test_2(self):
                hang()
                self.fail("after the timeout")

        class Other(SmokeTest):
            def test_3(self):
                late = Site.current.abandoned.count
                wait_for(late, lambda tests: tests == 2, what="both tests to time out")
                released.set()
                wait_for(late, lambda tests: tests == 0, what="both tests to end")
    """)
    report = site.run()
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "timed_out", "test_3": "passed"}
    assert result_of(report, "test_2").message == "timed out after 0.1 s"
    assert len(hanging.returned) == 2


def test_timeout__set_up_class_runs_again(run_smoke: RunSmoke) -> None:
    """The rest of the class runs in a new thread, after setUpClass has run again."""
    run_report = run_smoke(
        IMPORT_HANG
        + """
seen = []

def setUpModule(): seen.append("setUpModule")

class Test(SmokeTest):
    @classmethod
    def setUpClass(cls): seen.append("setUpClass")

    @classmethod
    def tearDownClass(cls): seen.append("tearDownClass")

    @options(timeout=0.2)
    def test_1(self): hang()
    def test_2(self): seen.append(2)
"""
    )
    assert outcomes(run_report) == {"test_1": "timed_out", "test_2": "passed"}
    expected = ["setUpModule", "setUpClass", "setUpModule", "setUpClass", 2, "tearDownClass"]
    values = sys.modules["app0.smoke"].seen
    assert values == expected
    release_all()
    assert values == expected


@pytest.mark.parametrize(
    ("fixture", "hook"),
    [
        ("def setUpModule(): hang()\n", "setUpModule"),
        ("", "setUpClass"),
    ],
)
def test_timeout__set_up_fixtures(run_smoke: RunSmoke, fixture: str, hook: str) -> None:
    """A fixture that hangs times out every test that requires it; the run continues."""
    in_class = "" if fixture else "@classmethod\n    def setUpClass(cls): hang()"
    report = run_smoke(
        f"""{IMPORT_HANG}{fixture}
class Test(SmokeTest):
    timeout = 0.1
    {in_class}

    @options(timeout=0.2)
    def test_1(self): pass
    def test_2(self): pass
"""
    )
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "timed_out"}
    for name in ("test_1", "test_2"):
        assert result_of(report, name).message == f"{hook}: timed out after 0.2 s"
    assert_hanging()
    assert report.duration < MAX_DURATION


@pytest.mark.parametrize("hook", ["tearDownClass", "tearDownModule"])
def test_timeout__tear_down_fixtures(run_smoke: RunSmoke, hook: str) -> None:
    """A teardown that hangs is a separate result; the tests keep theirs."""
    is_class_fixture = hook == "tearDownClass"
    report = run_smoke(
        f"""{IMPORT_HANG}
{"" if is_class_fixture else "tearDownModule = hang"}

class Test(SmokeTest):
    {"tearDownClass = classmethod(lambda cls: hang())" if is_class_fixture else ""}

    def test_1(self): pass
""",
        timeout=3,  # of the tests, too, which must pass
    )
    assert outcomes(report) == {"test_1": "passed", hook: "timed_out"}
    assert_hanging()
    assert report.duration < MAX_DURATION


def test_timeout__module_fixtures(apps: Apps, site: Site) -> None:
    """A module fixture that hangs does not block the next module, which shares its thread."""
    apps.add(
        f"{IMPORT_HANG}\ndef setUpModule(): hang()\n\n"
        "class Test(SmokeTest):\n    timeout = 0.2\n    def test_1(self): pass"
    )
    apps.add(
        "def setUpModule(): pass\n\nclass Test(SmokeTest):\n    def test_2(self): pass",
    )
    assert outcomes(site.run()) == {"test_1": "timed_out", "test_2": "passed"}
    assert_hanging()


def test_timeout__more_hanging_tests_than_workers(run_smoke: RunSmoke) -> None:
    """A thread that hangs is replaced."""
    tests = "".join(
        f"    @options(timeout=0.15)\n    def test_{n}(self): hang()\n" for n in range(3)
    )
    report = run_smoke(
        f"{IMPORT_HANG}\nclass Test(SmokeTest):\n{tests}    def test_9(self): pass",
        workers=1,
    )
    assert list(outcomes(report).values()) == ["timed_out"] * 3 + ["passed"]
    assert_hanging()


@uses_databases
def test_timeout__abandoned_test_is_denied_the_database(run_smoke: RunSmoke) -> None:
    """An abandoned test can run no statements, and its changes are rolled back."""
    run_smoke(
        IMPORT_HANG
        + """
seen = []

class Test(SmokeTest):
    def test_1(self):
        Account.objects.using("other").create(name="late")
        hang()
        try:
            Account.objects.create(name="later")
        except Exception as error:
            seen.append(str(error))
""",
        timeout=3,  # long enough to write before it hangs
    )
    assert_hanging()
    values = sys.modules["app0.smoke"].seen
    release_all()
    assert values == ["This test timed out and may no longer use the database 'default'."]
    assert not Account.objects.using("other").exists()


@pytest.mark.parametrize("submodule", [False, True])
def test_import__timeout(apps: Apps, site: Site, submodule: bool) -> None:
    """A module whose import hangs is a timed-out collection error after the run timeout."""
    source = f"{IMPORT_HANG}hang()\n"
    if submodule:
        apps.add(files={"smoke/__init__.py": "", "smoke/deep.py": source})
    else:
        apps.add(files={"smoke.py": source})
    apps.add("class Test(SmokeTest):\n    def test_it(self): pass")
    report = site.run(run_timeout=3)  # long enough to reach that module
    assert_hanging()
    (result,) = report.results
    assert result.id == ("app0.smoke.deep" if submodule else "app0.smoke")
    assert (result.outcome, result.is_critical) == ("timed_out", True)
    assert result.message == "cannot be imported: timed out after 3 s"
    assert "smoke" in result.traceback
    assert result.declaration.is_collection_error
    release_all()
    assert outcomes(site.run())["test_it"] == "passed"


def test_import__timeout_is_not_retried(apps: Apps, site: Site) -> None:
    """While the import of a module hangs, other runs start no second thread for it."""
    apps.add(files={"smoke.py": f"{IMPORT_HANG}hang()\n"})
    for run_timeout in (3, 0.1, 0.1):  # the first is long enough to reach that module
        (result,) = site.run(run_timeout=run_timeout).results
        assert (result.id, result.outcome) == ("app0.smoke", "timed_out")
    assert_hanging()
    assert len(smoke_threads()) == 1


@pytest.mark.parametrize(
    "method",
    [
        "def test_1(self): time.sleep(300)",
        "async def test_1(self): import asyncio; await asyncio.sleep(300)",
    ],
)
def test_timeout__process_can_exit(apps: Apps, method: str) -> None:
    """A process can exit while a timed-out test is still running."""
    apps.add(f"class Test(SmokeTest):\n    {method}")
    program = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["smoketest", "tests.ledger", "app0"])
django.setup()
from tests.conftest import EVERYTHING, LocallyAbandoned, find, options, run
suite = find(EVERYTHING, options(timeout=0.2))
report = run(suite, EVERYTHING, options(), abandoned=LocallyAbandoned(), carried={})
print(*[result.outcome for result in report.results])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{Path(__file__).parents[1]}:{apps.folder}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,  # the test would take 300 s
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "timed_out\n", "")


@pytest.mark.parametrize("usual", [0.005, 0.0001])
def test_switch_interval(apps: Apps, site: Site, usual: float) -> None:
    """The switch interval is shorter while a test or an abandoned test runs, then restored."""
    apps.add(
        IMPORT_HANG
        + """
import sys

seen = [sys.getswitchinterval()]

class Hangs(SmokeTest):
    timeout = 0.2
    def test_1(self): hang()

class Looks(SmokeTest):
    def test_2(self): seen.append(sys.getswitchinterval())
"""
    )
    before = sys.getswitchinterval()
    sys.setswitchinterval(usual)
    usual = sys.getswitchinterval()  # rounded to microseconds
    try:
        site.run()
        expected = min(usual, 0.0005)
        assert sys.modules["app0.smoke"].seen == [expected, expected]
        assert sys.getswitchinterval() == expected
        release_all()
        assert sys.getswitchinterval() == usual
    finally:
        sys.setswitchinterval(before)


# Abandoned tests


def test_abandoned__is_not_started_again(apps: Apps, site: Site) -> None:
    """An abandoned test is reported as still running until its thread ends."""
    apps.add(
        IMPORT_HANG
        + """
seen = []

class Test(SmokeTest):
    def test_1(self):
        seen.append(1)
        hang()

    @options(timeout=60)
    def test_2(self): pass
"""
    )
    first = site.run(timeout=3)  # long enough to reach `hang`
    assert outcomes(first) == {"test_1": "timed_out", "test_2": "passed"}
    since = utc(result_of(first, "test_1").started_at)
    for workers in (0, 2):
        report = site.run(workers=workers)
        assert outcomes(report) == {"test_1": "timed_out", "test_2": "passed"}
        message = result_of(report, "test_1").message
        assert message == f"still running since {since}, so it was not started again"
    assert_hanging()
    assert sys.modules["app0.smoke"].seen == [1]
    assert (site.abandoned.count(), list(site.abandoned.running())) == (
        1,
        ["app0.smoke.Test.test_1"],
    )
    release_all()
    assert site.abandoned.count() == 0
    assert outcomes(site.run()) == {"test_1": "passed", "test_2": "passed"}


def test_abandoned__set_up_class(apps: Apps, site: Site) -> None:
    """While setUpClass is still running, no test of the class is started."""
    apps.add(
        IMPORT_HANG
        + """
class Test(SmokeTest):
    timeout = 0.2

    @classmethod
    def setUpClass(cls): hang()

    def test_1(self): pass
    def test_2(self): pass

class Other(SmokeTest):
    def test_3(self): pass
"""
    )
    for _ in range(2):
        report = site.run()
        assert list(outcomes(report).values()) == ["timed_out", "timed_out", "passed"]
    assert result_of(report, "test_2").message.startswith("still running since ")
    assert len(smoke_threads()) == 1


# Deadline and fail-fast


@pytest.mark.parametrize("workers", [1, 2])
def test_deadline__stops_the_run(run_smoke: RunSmoke, workers: int) -> None:
    """At the deadline, running tests time out and the others are not run."""
    report = run_smoke(
        IMPORT_HANG
        + """
class One(SmokeTest):
    def test_1(self): pass
    def test_2(self): hang()
    def test_3(self): pass

class Two(SmokeTest):
    @classmethod
    def setUpClass(cls): hang()

    def test_4(self): pass

class Three(SmokeTest):
    def test_5(self): pass
""",
        run_timeout=3,  # long enough to reach the hanging code
        workers=workers,
    )
    assert_hanging()
    assert outcomes(report) == {
        "test_1": "passed",
        "test_2": "timed_out",
        "test_3": "not_run",
        "test_4": "not_run" if workers == 1 else "timed_out",
        "test_5": "not_run",
    }
    reason = "the run timed out after 3 s"
    assert result_of(report, "test_2").message == reason
    assert result_of(report, "test_5").message == reason
    assert report.stop_reason is StopReason.DEADLINE
    assert not report.passed
    assert 3 <= report.duration < MAX_DURATION
    release_all()
    assert result_of(report, "test_3").outcome == "not_run"


def test_deadline__thread_between_tests(run_smoke: RunSmoke) -> None:
    """A thread that hangs between tests is abandoned, too."""
    report = run_smoke(
        IMPORT_HANG
        + """
class Slow(type):
    @property
    def setUpClass(cls):
        hang()
        raise RuntimeError("after the deadline")

class Test(SmokeTest, metaclass=Slow):
    def test_1(self): pass
""",
        run_timeout=0.3,
    )
    assert outcomes(report) == {"test_1": "not_run"}
    assert report.stop_reason is StopReason.DEADLINE
    assert_hanging()
    assert report.duration < MAX_DURATION


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the supervisor; smoke tests advance `supervisor.monotonic`."""
    clock = Clock()
    monkeypatch.setattr(supervisor, "monotonic", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_deadline__without_threads(run_smoke: RunSmoke) -> None:
    """Without workers, the deadline is checked before each test and interrupts none."""
    report = run_smoke(
        """
        from smoketest.runner import supervisor

        class One(SmokeTest):
            @classmethod
            def tearDownClass(cls): cls.torn_down = True

            @options(timeout=0.01)
            def test_1(self): supervisor.monotonic.advance(1000)
            def test_2(self): pass

        class Two(SmokeTest):
            def test_3(self): pass
        """,
        run_timeout=1000,
        workers=0,
    )
    assert outcomes(report) == {"test_1": "passed", "test_2": "not_run", "test_3": "not_run"}
    assert report.stop_reason is StopReason.DEADLINE
    assert sys.modules["app0.smoke"].One.torn_down


@pytest.mark.parametrize("workers", [0, 1])
def test_failfast__critical_failure(run_smoke: RunSmoke, workers: int) -> None:
    """The first critical failure stops the run after teardown; a warning does not."""
    report = run_smoke(
        """
        class One(SmokeTest):
            @classmethod
            def tearDownClass(cls): cls.torn_down = True

            @options(severity="warning")
            def test_1(self): self.fail("only a warning")
            def test_2(self): self.skipTest("no problem")
            def test_3(self): self.fail("critical")
            def test_4(self): pass

        class Two(SmokeTest):
            def test_5(self): pass
        """,
        failfast=True,
        workers=workers,
    )
    assert outcomes(report) == {
        "test_1": "failed",
        "test_2": "skipped",
        "test_3": "failed",
        "test_4": "not_run",
        "test_5": "not_run",
    }
    assert result_of(report, "test_5").message == "another test had failed (fail-fast)"
    assert report.stop_reason is StopReason.FAIL_FAST
    assert sys.modules["app0.smoke"].One.torn_down


def test_failfast__parallel_tests(run_smoke: RunSmoke) -> None:
    """A test that runs when another one fails keeps its outcome."""
    report = run_smoke(
        """
        import threading

        both, failed = threading.Barrier(2), threading.Event()

        class One(SmokeTest):
            @classmethod
            def tearDownClass(cls): failed.set()

            def test_1(self):
                both.wait(60)
                self.fail()

        class Two(SmokeTest):
            def test_2(self):
                both.wait(60)
                self.assertTrue(failed.wait(60))
            def test_3(self): pass
        """,
        failfast=True,
    )
    assert outcomes(report) == {"test_1": "failed", "test_2": "passed", "test_3": "not_run"}


def test_failfast__timeout(run_smoke: RunSmoke) -> None:
    """A critical test that times out stops the run."""
    report = run_smoke(
        f"{IMPORT_HANG}\nclass Test(SmokeTest):\n"
        "    def test_1(self): hang()\n    def test_2(self): pass",
        failfast=True,
        timeout=0.1,
    )
    assert_hanging()
    assert outcomes(report) == {"test_1": "timed_out", "test_2": "not_run"}
    assert report.stop_reason is StopReason.FAIL_FAST


def test_failfast__collection_error(apps: Apps, site: Site) -> None:
    """After a collection error, no test starts."""
    apps.add(files={"smoke.py": "1 / 0"})
    apps.add("class Test(SmokeTest):\n    def test_it(self): pass")
    report = site.run(failfast=True)
    assert outcomes(report) == {"smoke": "errored", "test_it": "not_run"}
    assert report.stop_reason is StopReason.FAIL_FAST


# Carried over results


@pytest.mark.parametrize("workers", [0, 2])
def test_carried_over__results(apps: Apps, site: Site, workers: int) -> None:
    """A test with a carried-over result does not run, and its result is marked."""
    apps.add("""
        seen = []

        class One(SmokeTest):
            def test_1(self): seen.append(1)
            def test_2(self): seen.append(2)

        class Two(SmokeTest):
            @classmethod
            def setUpClass(cls): seen.append("setUpClass")

            def test_3(self): seen.append(3)
    """)
    first = {result.id: result for result in site.run(workers=workers).results}
    values = sys.modules["app0.smoke"].seen
    values.clear()
    carried = {test_id: r for test_id, r in first.items() if not test_id.endswith("2")}
    report = site.run(carried=carried, workers=workers)
    assert values == [2]
    assert [(result.id[-1], result.carried) for result in report.results] == [
        ("1", True),
        ("2", False),
        ("3", True),
    ]
    assert report.results[0].started_at == first["app0.smoke.One.test_1"].started_at
    assert report.stop_reason is StopReason.NONE


def test_empty_suite(site: Site) -> None:
    report = site.run()
    assert (report.results, report.stop_reason, report.passed) == ((), StopReason.NONE, True)


def test_report__release_and_selection(run_smoke: RunSmoke) -> None:
    """The report has the release of the options and the selection."""
    report = run_smoke("", release="v2")
    assert (report.release, report.selection) == ("v2", EVERYTHING)


# Internal errors


def test_error__in_a_worker(run_smoke: RunSmoke) -> None:
    """After an exception outside of a test, all tests of the class are errored."""
    report = run_smoke("""
        class Odd(type):
            @property
            def setUpClass(cls):
                raise RuntimeError("no such class")

        class Test(SmokeTest, metaclass=Odd):
            def test_1(self): pass
            def test_2(self): pass

        class Other(SmokeTest):
            def test_3(self): pass
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored", "test_3": "passed"}
    assert result_of(report, "test_1").message == "no such class"
    assert report.stop_reason is StopReason.NONE


@pytest.fixture
def break_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function that adds a database alias ``broken`` whose driver cannot be imported."""
    settings = {"default": {}, "broken": {"ENGINE": "tests.no_such_engine", "NAME": "x"}}
    broken = connections.configure_settings(settings)["broken"]
    before = connections.all()
    yield lambda: monkeypatch.setitem(connections.settings, "broken", broken)
    for connection in before:
        connections[connection.alias] = connection


@uses_databases
@pytest.mark.parametrize("workers", [0, 2])
def test_error__broken_database(
    apps: Apps, site: Site, break_database: Callable[[], None], workers: int
) -> None:
    """A missing database driver is an error only of the tests that use it."""
    apps.add("""
        class Test(SmokeTest):
            def test_1(self):
                self.assertFalse(Account.objects.exists())

            def test_2(self):
                Account.objects.using("broken").exists()
    """)
    break_database()
    report = site.run(workers=workers)
    assert outcomes(report) == {"test_1": "passed", "test_2": "errored"}


@uses_databases
def test_error__in_isolation(apps: Apps, break_database: Callable[[], None]) -> None:
    """If isolation cannot start, the tests are errored and the run ends."""
    apps.add("class Test(SmokeTest):\n    def test_1(self): Account.objects.using('broken').get()")
    with apps.installed():
        suite = find(EVERYTHING, options())
        break_database()
        report = run(
            suite,
            EVERYTHING,
            options(run_timeout=120),
            abandoned=LocallyAbandoned(),
            carried={},
        )
    assert outcomes(report) == {"test_1": "errored"}
    assert "no_such_engine" in result_of(report, "test_1").message
    assert report.stop_reason is StopReason.NONE


@pytest.fixture
def sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, which background processes ignore by default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
def test_keyboard_interrupt__abandons_threads(run_smoke: RunSmoke) -> None:
    """KeyboardInterrupt in the main thread ends the run at once and abandons its threads."""
    with pytest.raises(KeyboardInterrupt):
        run_smoke(
            IMPORT_HANG
            + """
import _thread

seen = []

class Test(SmokeTest):
    def test_1(self):
        _thread.interrupt_main()
        hang()

    def test_2(self): seen.append(2)
"""
        )
    assert_hanging()
    values = sys.modules["app0.smoke"].seen
    release_all()
    assert values == []
