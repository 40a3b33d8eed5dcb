"""Outcomes of tests and the execution of their fixtures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone, translation

from tests.conftest import RunSmoke, outcomes, result_of
from tests.ledger.models import Account

uses_databases = pytest.mark.django_db(transaction=True, databases="__all__")

with_and_without_threads = pytest.mark.parametrize("workers", [0, 2], ids=["inline", "threads"])


def seen(app: str = "app0") -> list[Any]:
    """Return the list `seen` of the smoke module."""
    values: list[Any] = sys.modules[f"{app}.smoke"].seen
    return values


# Order


@with_and_without_threads
def test_order__is_alphabetical(run_smoke: RunSmoke, workers: int) -> None:
    """The tests of a class run in unittest's order, by name."""
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


def test_instances__one_per_test(run_smoke: RunSmoke) -> None:
    """Attributes that a test sets on its instance do not reach the next test."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_1(self): self.left = 1
            def test_2(self): self.assertFalse(hasattr(self, "left"))
    """)
    assert outcomes(report) == {"test_1": "passed", "test_2": "passed"}


def test_result__start_and_duration(run_smoke: RunSmoke) -> None:
    """A result has the wall clock time of its start, and a duration that includes setUp."""
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


# Outcomes

ENDINGS = {
    "return": ("pass", "passed", "", ""),
    "assert": ("assert False, 'not so'", "failed", "AssertionError", "not so"),
    "bare assert": ("assert False", "failed", "AssertionError", "assert False"),
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


@with_and_without_threads
@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("case", ENDINGS)
def test_outcome_and_message(run_smoke: RunSmoke, case: str, keyword: str, workers: int) -> None:
    """Every way to end a test has one outcome and message, and the next test runs."""
    body, outcome, exception, message = ENDINGS[case]
    if not workers and case == "KeyboardInterrupt":
        pytest.skip("without threads, KeyboardInterrupt ends the run")
    if keyword == "async def" and case == "StopIteration":
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
def test_outcome__set_up_and_tear_down(run_smoke: RunSmoke, where: str) -> None:
    """An exception in setUp or tearDown, including KeyboardInterrupt, fails the test."""
    report = run_smoke(f"""
        class Test(SmokeTest):
            def {where}(self):
                raise KeyboardInterrupt("stop")

            def test_1(self): pass
            def test_2(self): pass
    """)
    assert outcomes(report) == {"test_1": "errored", "test_2": "errored"}
    assert result_of(report, "test_1").message == "stop"


def test_keyboard_interrupt__without_threads(run_smoke: RunSmoke) -> None:
    """In the main thread, KeyboardInterrupt ends the run."""
    with pytest.raises(KeyboardInterrupt):
        run_smoke(
            "class Test(SmokeTest):\n    def test_it(self): raise KeyboardInterrupt", workers=0
        )


def test_constructor_error(run_smoke: RunSmoke) -> None:
    """An exception in the constructor of a test does not affect other tests."""
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


def test_traceback__starts_in_the_test(run_smoke: RunSmoke) -> None:
    """The traceback has only frames of the test and the code it calls."""
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


@with_and_without_threads
def test_class__deletes_itself(run_smoke: RunSmoke, workers: int) -> None:
    """A test that deletes its class or its module does not affect other tests."""
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
def restore_time() -> Iterator[None]:
    """Restore the functions of the `time` module after the test."""
    names = ("time", "monotonic", "sleep")
    before = {name: getattr(time, name) for name in names}
    yield
    for name, function in before.items():
        setattr(time, name, function)


@with_and_without_threads
@pytest.mark.usefixtures("restore_time")
def test_time__patched_by_a_test(run_smoke: RunSmoke, workers: int) -> None:
    """A test that patches the clock permanently does not change the times of other results."""
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
@with_and_without_threads
def test_set_up_class__error(run_smoke: RunSmoke, raised: str, workers: int) -> None:
    """An error in setUpClass is the outcome of each test of the class; other classes run."""
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


def test_set_up_module__error(run_smoke: RunSmoke) -> None:
    """An error in setUpModule is the outcome of each test of the module; module cleanups run."""
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
@with_and_without_threads
def test_tear_down_class__error(run_smoke: RunSmoke, where: str, workers: int) -> None:
    """An error in tearDownClass is a separate result, critical if one of the tests is."""
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


def test_tear_down_class__error_with_warning_tests(run_smoke: RunSmoke) -> None:
    """If all tests of a class are warnings, so is the error of its fixture."""
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
def test_tear_down_module__error(run_smoke: RunSmoke, where: str) -> None:
    """An error in tearDownModule is a separate result; the tests keep theirs."""
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


def test_class_cleanups__all_errors_are_reported(run_smoke: RunSmoke) -> None:
    """Several failing class cleanups are one result with all tracebacks."""
    report = run_smoke("""
        def fail(message):
            raise RuntimeError(message)

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


def test_module_fixtures__run_once_per_module(run_smoke: RunSmoke) -> None:
    """Modules with fixtures run sequentially, with one setUpModule for all of their classes."""
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
@with_and_without_threads
def test_fixtures__rows_are_rolled_back(run_smoke: RunSmoke, workers: int) -> None:
    """Each test sees the rows of the fixtures unchanged; at the end, all rows are rolled back."""
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
@with_and_without_threads
def test_set_up_class__runs_again_after_lost_connection(run_smoke: RunSmoke, workers: int) -> None:
    """After a test closes the connection, setUpClass runs again to recreate its rows."""
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
                Account.objects.get()  # lost with the connection; this error is not reported

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
def test_set_up_module__runs_again_after_lost_connection(run_smoke: RunSmoke) -> None:
    """After a test closes the connection, setUpModule and setUpClass run again."""
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
def test_fixture__invalid_foreign_key(run_smoke: RunSmoke) -> None:
    """An invalid foreign key of setUpClass is reported at the end of the class."""
    report = run_smoke("""
        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                Entry.objects.create(account_id=4711)

            def test_it(self): pass
    """)
    assert "errored" in outcomes(report).values()
    assert any("IntegrityError" in result.exception for result in report.results)


def test_databases__unknown_alias(run_smoke: RunSmoke) -> None:
    """Tests that declare an unknown database alias are errored; the message names the alias."""
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


@pytest.mark.parametrize("workers", [0, 1], ids=["inline", "threads"])
def test_context__is_not_shared(run_smoke: RunSmoke, workers: int) -> None:
    """A language or time zone that is activated in a test or fixture does not affect others."""
    before = translation.get_language(), timezone.get_current_timezone_name()
    report = run_smoke(
        f"""
        from django.utils import timezone, translation

        def active():
            return translation.get_language(), timezone.get_current_timezone_name()

        class A(SmokeTest):
            @classmethod
            def setUpClass(cls):
                translation.activate("fr")
                timezone.activate("Europe/Paris")

            def test_1(self):
                self.assertEqual(active(), ("fr", "Europe/Paris"))
                translation.activate("de")
                timezone.activate("Europe/Berlin")

            def test_2(self):
                self.assertEqual(active(), ("fr", "Europe/Paris"))

        class B(SmokeTest):
            def test_3(self):
                self.assertEqual(active(), {before!r})
        """,
        workers=workers,
    )
    assert report.passed, [result.message for result in report.results]
    assert (translation.get_language(), timezone.get_current_timezone_name()) == before
