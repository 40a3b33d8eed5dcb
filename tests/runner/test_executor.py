"""What every way to end makes of a test, and what its fixtures share with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import RunSmoke, outcomes, result_of
from tests.ledger.models import Account

uses_databases = pytest.mark.django_db(transaction=True, databases="__all__")

either_way = pytest.mark.parametrize("workers", [0, 2], ids=["inline", "threads"])


def seen(app: str = "app0") -> list[Any]:
    """What the smoke module noted in its list `seen`."""
    noted: list[Any] = sys.modules[f"{app}.smoke"].seen
    return noted


# Order


@either_way
def test_order__is_that_of_unittest(run_smoke: RunSmoke, workers: int) -> None:
    """The tests of a class run by name, whatever their order in the source."""
    report = run_smoke(
        """
        seen = []

        class Test(SmokeTest):
            def test_c(self): seen.append("c")
            def test_a(self): seen.append("a")
            async def test_b(self): seen.append("b")
        """,
        workers=workers,
    )
    assert seen() == ["a", "b", "c"]
    assert list(outcomes(report)) == ["test_a", "test_b", "test_c"]


def test_instances__are_new_for_every_test(run_smoke: RunSmoke) -> None:
    """What one test leaves on itself, the next one does not see."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_1(self): self.left = 1
            def test_2(self): self.assertFalse(hasattr(self, "left"))
    """)
    assert outcomes(report) == {"test_1": "passed", "test_2": "passed"}


def test_result__says_when_and_how_long(run_smoke: RunSmoke) -> None:
    """A result holds the time of day at which the test began, and what it took, setUp included."""
    before = time.time()
    report = run_smoke("""
        class Test(SmokeTest):
            def setUp(self): time.sleep(0.06)
            def tearDown(self): time.sleep(0.06)
            def test_it(self): pass
    """)
    result = result_of(report, "test_it")
    assert before <= result.started_at <= time.time()
    assert 0.12 <= result.duration <= report.duration <= time.time() - before + 0.1


# How a test may end

ENDINGS = {
    "return": ("pass", "passed", "", ""),
    "assert": ("assert False, 'not so'", "failed", "AssertionError", "not so"),
    "bare assert": ("assert False", "failed", "AssertionError", "AssertionError"),
    "KeyError": ("{}[3]", "errored", "KeyError", "KeyError: 3"),
    "SystemExit": ("raise SystemExit(3)", "errored", "SystemExit", "3"),
    "exit": ("import sys; sys.exit()", "errored", "SystemExit", "SystemExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "errored", *["KeyboardInterrupt"] * 2),
    "GeneratorExit": ("raise GeneratorExit", "errored", "GeneratorExit", "GeneratorExit"),
    "StopIteration": ("raise StopIteration", "errored", "StopIteration", "StopIteration"),
    "BaseException": ("raise BaseException('base')", "errored", "BaseException", "base"),
    "CancelledError": (
        "import asyncio; raise asyncio.CancelledError",
        "errored",
        "CancelledError",
        "CancelledError",
    ),
    "RecursionError": (
        "f = lambda: f()\nf()",
        "errored",
        "RecursionError",
        "maximum recursion depth exceeded",
    ),
    "MemoryError": ("raise MemoryError", "errored", "MemoryError", "MemoryError"),
    "blank message": ("raise ValueError(' ')", "errored", "ValueError", "ValueError"),
    "broken __str__": (
        "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E",
        "errored",
        "Test.test_it.<locals>.E",
        "Test.test_it.<locals>.E (its message cannot be shown: RuntimeError)",
    ),
    "exiting __str__": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "errored",
        "Test.test_it.<locals>.E",
        "Test.test_it.<locals>.E (its message cannot be shown: SystemExit)",
    ),
    "long message": ("raise ValueError('x' * 10**6 + 'end')", "errored", "ValueError", "end"),
    "surrogate": (r"raise ValueError('lone \ud800')", "errored", "ValueError", "lone ?"),
    "warning as error": (
        "import warnings\nwith warnings.catch_warnings(action='error'): warnings.warn('old')",
        "errored",
        "UserWarning",
        "old",
    ),
    "group": (
        "raise ExceptionGroup('both', [ValueError(1), KeyError(2)])",
        "errored",
        "ExceptionGroup",
        "both (2 sub-exceptions)",
    ),
}


@either_way
@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("how", ENDINGS)
def test_ending__has_outcome_and_message(
    run_smoke: RunSmoke, how: str, keyword: str, workers: int
) -> None:
    """However a test ends, it has one result with what there is to say, and the next one runs."""
    body, outcome, exception, message = ENDINGS[how]
    if not workers and how == "KeyboardInterrupt":
        pytest.skip("that is the Ctrl-C of the person at the terminal")
    if keyword == "async def" and how == "StopIteration":
        exception, message = "RuntimeError", "coroutine raised StopIteration"
    lines = "\n        ".join(body.splitlines())
    report = run_smoke(
        "class Test(SmokeTest):\n"
        f"    {keyword} test_it(self):\n        {lines}\n"
        "    def test_next(self): pass\n",
        workers=workers,
    )
    assert outcomes(report) == {"test_it": outcome, "test_next": "passed"}
    result = result_of(report, "test_it")
    assert (result.outcome, result.exception) == (outcome, exception)
    assert result.message.endswith(message)
    assert len(result.message) < 5000
    if outcome != "passed":
        assert "Traceback" in result.traceback or "cannot be shown" in result.traceback


@pytest.mark.parametrize("where", ["setUp", "tearDown"])
def test_ending__of_set_up_and_tear_down_counts(run_smoke: RunSmoke, where: str) -> None:
    """What setUp and tearDown raise is the test's, an interrupt included."""
    report = run_smoke(f"""
        class Test(SmokeTest):
            def {where}(self):
                raise KeyboardInterrupt("stop")

            def test_1(self): pass
            def test_2(self): pass
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored"}
    assert result_of(report, "test_1").message == "stop"


def test_interrupt__without_threads_is_the_users(run_smoke: RunSmoke) -> None:
    """In the calling thread, which is the main one here, Ctrl-C ends the run."""
    with pytest.raises(KeyboardInterrupt):
        run_smoke(
            "class Test(SmokeTest):\n    def test_it(self): raise KeyboardInterrupt", workers=0
        )


def test_constructor__that_raises_is_an_error_of_the_test(run_smoke: RunSmoke) -> None:
    """A test whose instance cannot be made has its result, and so have the others."""
    report = run_smoke("""
        class Test(SmokeTest):
            def __init__(self, name):
                super().__init__(name)
                if name == "test_1":
                    raise ValueError("no instance")

            def test_1(self): pass
            def test_2(self): pass
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "passed"}
    assert result_of(report, "test_1").message == "no instance"


def test_traceback__shows_the_test_and_not_the_machinery(run_smoke: RunSmoke) -> None:
    """The traceback is that of the code under test."""
    report = run_smoke("""
        def helper():
            return 1 / 0

        class Test(SmokeTest):
            def test_it(self):
                helper()
    """)
    lines = result_of(report, "test_it").traceback.splitlines()
    assert [line.strip().partition(", in ")[2] for line in lines if "File" in line] == [
        "test_it",
        "helper",
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"


@either_way
def test_class__may_delete_itself(run_smoke: RunSmoke, workers: int) -> None:
    """A test that removes its class, and even its module, leaves the rest of the run alone."""
    report = run_smoke(
        """
        import sys

        class Test(SmokeTest):
            def test_1(self):
                del globals()["Test"]

            def test_2(self):
                del sys.modules[__name__]

            def test_3(self):
                pass

        class Other(SmokeTest):
            def test_4(self):
                pass
        """,
        workers=workers,
    )
    assert set(outcomes(report).values()) == {"passed"}
    assert len(report.results) == 4


@pytest.fixture
def real_time() -> Iterator[None]:
    """Puts back what a smoke test does to the module `time`."""
    names = ("time", "monotonic", "sleep")
    before = {name: getattr(time, name) for name in names}
    yield
    for name, function in before.items():
        setattr(time, name, function)


@either_way
@pytest.mark.usefixtures("real_time")
def test_time__patched_by_a_test_does_not_confuse_the_run(
    run_smoke: RunSmoke, workers: int
) -> None:
    """A test may patch the clock and forget to put it back: the run goes by the real one."""
    before = time.time()
    report = run_smoke(
        """
        import threading

        class Test(SmokeTest):
            def test_1(self):
                time.time = time.monotonic = time.sleep = None

            def test_2(self):
                threading.Event().wait(0.05)
        """,
        workers=workers,
    )
    assert set(outcomes(report).values()) == {"passed"}
    result = result_of(report, "test_2")
    assert result.started_at >= before
    assert result.duration >= 0.05


# Fixtures


@pytest.mark.parametrize("raised", ["RuntimeError('no set-up')", "SystemExit('no set-up')"])
@either_way
def test_set_up_class__that_fails_is_an_error_of_every_test(
    run_smoke: RunSmoke, raised: str, workers: int
) -> None:
    """Each test has the error, and says that it comes from setUpClass; other classes run."""
    report = run_smoke(
        f"""
        seen = []

        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                cls.addClassCleanup(seen.append, "class cleanup")
                raise {raised}

            @classmethod
            def tearDownClass(cls): seen.append("tearDownClass")

            def test_1(self): pass

            @options(severity="warning")
            def test_2(self): pass

        class Other(SmokeTest):
            def test_3(self): pass
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored", "test_3": "passed"}
    for name in ("test_1", "test_2"):
        assert result_of(report, name).message == "setUpClass: no set-up"
        assert "in setUpClass" in result_of(report, name).traceback
    assert result_of(report, "test_2").declaration.severity == "warning"
    assert seen() == ["class cleanup"]


def test_set_up_module__that_fails_is_an_error_of_every_test(run_smoke: RunSmoke) -> None:
    """Every test of all classes of the module has the error; module cleanups run."""
    report = run_smoke("""
        seen = []

        def setUpModule():
            unittest.addModuleCleanup(seen.append, "module cleanup")
            raise ValueError("no module")

        def tearDownModule():
            seen.append("tearDownModule")

        class One(SmokeTest):
            def test_1(self): pass

        class Two(SmokeTest):
            @classmethod
            def setUpClass(cls): seen.append("setUpClass")

            def test_2(self): pass
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored"}
    assert result_of(report, "test_2").message == "setUpModule: no module"
    assert seen() == ["module cleanup"]


@pytest.mark.parametrize("where", ["tearDownClass", "class cleanup"])
@either_way
def test_tear_down_class__that_fails_is_a_result_of_its_own(
    run_smoke: RunSmoke, where: str, workers: int
) -> None:
    """The tests keep their results; the fixture's is critical if one of the tests is."""
    report = run_smoke(
        f"""
        seen = []

        def fail():
            raise RuntimeError("stuck")

        class Test(SmokeTest):
            maintainer = "payments"

            @classmethod
            def setUpClass(cls):
                cls.addClassCleanup(seen.append, "cleanup")
                if {where!r} == "class cleanup":
                    cls.addClassCleanup(fail)

            @classmethod
            def tearDownClass(cls):
                if {where!r} == "tearDownClass":
                    fail()

            @options(severity="warning")
            def test_1(self): "Describes test_1."

            def test_2(self): pass
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_1": "passed", "test_2": "passed", "tearDownClass": "errored"}
    result = result_of(report, "app0.smoke.Test.tearDownClass")
    assert result.message == "stuck"
    assert "in fail" in result.traceback
    assert result.is_critical
    assert (result.declaration.app, result.declaration.maintainer) == ("app0", "payments")
    assert result.declaration.description == ""
    assert seen() == ["cleanup"]
    assert not report.passed


def test_tear_down__of_warnings_is_a_warning(run_smoke: RunSmoke) -> None:
    """The fixtures of tests that are all warnings cannot make the run fail."""
    report = run_smoke("""
        class Test(SmokeTest):
            severity = "warning"

            @classmethod
            def tearDownClass(cls): raise RuntimeError("stuck")

            def test_it(self): pass
    """)
    assert outcomes(report) == {"test_it": "passed", "tearDownClass": "errored"}
    assert report.passed


@pytest.mark.parametrize("where", ["tearDownModule", "module cleanup"])
def test_tear_down_module__that_fails_is_a_result_of_its_own(
    run_smoke: RunSmoke, where: str
) -> None:
    """The tests of the module keep their results."""
    report = run_smoke(f"""
        def fail():
            raise RuntimeError("stuck")

        def setUpModule():
            if {where!r} == "module cleanup":
                unittest.addModuleCleanup(fail)

        def tearDownModule():
            if {where!r} == "tearDownModule":
                fail()

        class Test(SmokeTest):
            def test_it(self): pass
    """)
    assert outcomes(report) == {"test_it": "passed", "tearDownModule": "errored"}
    assert result_of(report, "app0.smoke.tearDownModule").message == "stuck"


def test_class_cleanups__all_that_fail_are_told(run_smoke: RunSmoke) -> None:
    """Several failing class cleanups are one result, with the traceback of each."""
    report = run_smoke("""
        def fail(how):
            raise RuntimeError(how)

        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                cls.addClassCleanup(fail, "first")
                cls.addClassCleanup(fail, "second")

            def test_it(self): pass
    """)
    result = result_of(report, "tearDownClass")
    assert result.message.startswith("second")
    assert "RuntimeError: first" in result.traceback


def test_module_fixtures__run_once_for_all_classes(run_smoke: RunSmoke) -> None:
    """Modules with fixtures run one after the other, each with one set-up for its classes."""
    source = """
        seen = []

        def setUpModule(): seen.append("setUpModule")

        class One(SmokeTest):
            def test_1(self): seen.append(1)

        class Two(SmokeTest):
            @classmethod
            def setUpClass(cls): seen.append("setUpClass")

            def test_2(self): seen.append(2)
            def test_3(self): seen.append(3)
    """
    run_smoke(source)
    run_smoke(source + "\n        def tearDownModule(): seen.append('tearDownModule')\n")
    assert seen("app0") == ["setUpModule", 1, "setUpClass", 2, 3] * 2
    assert seen("app1") == ["setUpModule", 1, "setUpClass", 2, 3, "tearDownModule"]


@uses_databases
@either_way
def test_fixtures__rows_are_shared_and_rolled_back(run_smoke: RunSmoke, workers: int) -> None:
    """Tests see what the fixtures wrote, as it was; at the end nothing of it is left."""
    report = run_smoke(
        """
        def names():
            return sorted(Account.objects.values_list("name", flat=True))

        def setUpModule():
            Account.objects.create(name="module")
            Account.objects.using("other").create(name="other module")

        def tearDownModule():
            assert names() == ["module"], names()

        class One(SmokeTest):
            @classmethod
            def setUpClass(cls):
                cls.account = Account.objects.create(name="class one")

            @classmethod
            def tearDownClass(cls):
                assert names() == ["class one", "module"], names()

            def test_1(self):
                Account.objects.create(name="test")
                Account.objects.filter(name="module").delete()
                self.assertEqual(names(), ["class one", "test"])

            def test_2(self):
                self.assertEqual(names(), ["class one", "module"])
                self.assertEqual(Account.objects.using("other").count(), 1)

        class Two(SmokeTest):
            def test_3(self):
                self.assertEqual(names(), ["module"])
        """,
        workers=workers,
    )
    assert set(outcomes(report).values()) == {"passed"}
    assert len(report.results) == 3
    assert not Account.objects.exists()
    assert not Account.objects.using("other").exists()


@uses_databases
@either_way
def test_set_up_class__runs_again_after_a_lost_connection(
    run_smoke: RunSmoke, workers: int
) -> None:
    """A test that loses the connection loses the rows of setUpClass: they are made again."""
    report = run_smoke(
        """
        seen = []

        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                seen.append("setUpClass")
                Account.objects.create(name="class")

            @classmethod
            def tearDownClass(cls):
                seen.append("tearDownClass")
                Account.objects.get()  # gone with the connection, which is no problem of its own

            def test_1(self): self.assertEqual(Account.objects.count(), 1)
            def test_2(self): connection.close()
            def test_3(self): self.assertEqual(Account.objects.count(), 1)
            def test_4(self): connection.close()
        """,
        workers=workers,
    )
    assert set(outcomes(report).values()) == {"passed"}
    assert len(report.results) == 4
    assert seen() == ["setUpClass", "tearDownClass"] * 2
    assert not Account.objects.exists()


@uses_databases
def test_set_up_module__runs_again_after_a_lost_connection(run_smoke: RunSmoke) -> None:
    """The rows of setUpModule are made again, too, and those of the class inside them."""
    report = run_smoke("""
        seen = []

        def setUpModule():
            seen.append("setUpModule")
            Account.objects.create(name="module")

        class One(SmokeTest):
            @classmethod
            def setUpClass(cls):
                seen.append("setUpClass")
                Account.objects.create(name="class")

            def test_1(self): connection.close()
            def test_2(self): self.assertEqual(Account.objects.count(), 2)

        class Two(SmokeTest):
            def test_3(self): connection.close()
            def test_4(self): self.assertEqual(Account.objects.count(), 1)
    """)
    assert set(outcomes(report).values()) == {"passed"}
    assert len(report.results) == 4
    assert seen() == ["setUpModule", "setUpClass", "setUpModule", "setUpClass", "setUpModule"]


@uses_databases
def test_fixture__that_could_never_be_committed_is_an_error(run_smoke: RunSmoke) -> None:
    """Dangling references that setUpClass leaves are found when the class is done."""
    report = run_smoke("""
        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                Entry.objects.create(account_id=4711)

            def test_it(self): pass
    """)
    assert "errored" in outcomes(report).values()
    assert any("IntegrityError" in result.exception for result in report.results)


def test_databases__unknown_is_an_error_of_the_tests(run_smoke: RunSmoke) -> None:
    """A class that declares an alias which the site lacks is told so, and which there are."""
    report = run_smoke("""
        class Test(SmokeTest):
            databases = {"default", "nowhere"}

            def test_it(self): pass

        class WithFixture(SmokeTest):
            databases = ["nowhere"]

            @classmethod
            def setUpClass(cls): pass

            def test_fixture(self): pass
    """)
    assert outcomes(report) == {"test_it": "errored", "test_fixture": "errored"}
    message = "declares databases that are not in DATABASES: nowhere."
    assert message in result_of(report, "test_it").message
    assert message in result_of(report, "test_fixture").message
