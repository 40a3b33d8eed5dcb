"""What the author of a smoke test writes: all of unittest, `tag` and `options`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import tag as django_tag

from smoketest import SmokeTest, options, tag
from smoketest.case import METHOD_OPTIONS, OPTIONS_ATTRIBUTE
from tests.conftest import RunSmoke, outcomes, result_of

uses_databases = pytest.mark.django_db(transaction=True, databases="__all__")

# What unittest offers


def test_assertions__tell_failed_from_errored(run_smoke: RunSmoke) -> None:
    """A failed assertion is a failure, any other exception an error."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_error(self):
                {}["missing"]

            def test_failure(self):
                self.assertIn(3, [1, 2])

            def test_plain_assert(self):
                assert 1 == 2, "plain"

            def test_success(self):
                self.assertEqual(1, 1)
                with self.assertRaisesRegex(ValueError, "bad"):
                    raise ValueError("bad value")
                with self.assertLogs("app", "INFO") as logs:
                    __import__("logging").getLogger("app").info("hello")
                self.assertEqual(logs.output, ["INFO:app:hello"])
    """)
    assert outcomes(report) == {
        "test_error": "errored",
        "test_failure": "failed",
        "test_plain_assert": "failed",
        "test_success": "passed",
    }
    assert result_of(report, "test_error").message == "KeyError: 'missing'"
    assert result_of(report, "test_failure").message == "3 not found in [1, 2]"
    assert result_of(report, "test_plain_assert").message == "plain"


def test_failure_exception__of_the_class_is_a_failure(run_smoke: RunSmoke) -> None:
    """A class may say which exception its assertions raise, as in unittest."""
    report = run_smoke("""
        class Test(SmokeTest):
            failureException = LookupError

            def test_own(self):
                raise KeyError("own")

            def test_own_in_subtest(self):
                with self.subTest():
                    raise KeyError("own")
    """)
    assert set(outcomes(report).values()) == {"failed"}


def test_long_message__is_off(run_smoke: RunSmoke) -> None:
    """A custom message is printed alone, unless the class asks for more."""
    report = run_smoke("""
        class Short(SmokeTest):
            def test_short(self):
                self.assertEqual(1, 2, "they differ")

        class Long(SmokeTest):
            longMessage = True

            def test_long(self):
                self.assertEqual(1, 2, "they differ")
    """)
    assert result_of(report, "test_short").message == "they differ"
    assert result_of(report, "test_long").message == "1 != 2 : they differ"


def test_subtest__counts_once_with_the_worst(run_smoke: RunSmoke) -> None:
    """Several failing subtests are one result: the first of the worst, and how many more."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_subtests(self):
                for n in range(4):
                    with self.subTest("part", n=n):
                        if n == 1:
                            self.fail("low")
                        if n > 1:
                            raise ValueError(f"odd {n}")
    """)
    assert outcomes(report) == {"test_subtests": "errored"}
    result = result_of(report, "test_subtests")
    assert result.message == "[part] (n=2) odd 2 (and 2 more)"
    assert result.exception == "ValueError"
    assert all(text in result.traceback for text in ("low", "odd 2", "odd 3"))


def test_subtest__that_passes_or_is_skipped_leaves_the_rest_alone(run_smoke: RunSmoke) -> None:
    """A skipped subtest neither skips the test nor hides that another failed."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_passing(self):
                for n in range(3):
                    with self.subTest(n=n):
                        if n == 1:
                            self.skipTest("not this one")

            def test_failing(self):
                for n in range(3):
                    with self.subTest(n=n):
                        if n == 1:
                            self.skipTest("not this one")
                        self.assertNotEqual(n, 2)
    """)
    assert outcomes(report) == {"test_failing": "failed", "test_passing": "passed"}
    assert result_of(report, "test_failing").message == "(n=2) 2 == 2"


def test_failure_after_failing_subtest__counts_once(run_smoke: RunSmoke) -> None:
    """What fails after a failing subtest, in tearDown too, belongs to the same result."""
    report = run_smoke("""
        class Test(SmokeTest):
            def tearDown(self):
                raise RuntimeError("in tearDown")

            def test_both(self):
                with self.subTest():
                    self.fail("in subtest")
                self.fail("in test")
    """)
    result = result_of(report, "test_both")
    assert (result.outcome, result.message) == ("errored", "in tearDown (and 2 more)")


@pytest.mark.parametrize(
    "source",
    [
        """
        class Test(SmokeTest):
            @unittest.skip("why not")
            def test_skipped(self):
                self.fail()
        """,
        """
        class Test(SmokeTest):
            @unittest.skipIf(True, "why not")
            async def test_skipped(self):
                self.fail()
        """,
        """
        class Test(SmokeTest):
            def test_skipped(self):
                self.skipTest("why not")
        """,
        """
        class Test(SmokeTest):
            async def test_skipped(self):
                self.skipTest("why not")
        """,
        """
        class Test(SmokeTest):
            def setUp(self):
                raise unittest.SkipTest("why not")

            def test_skipped(self):
                self.fail()
        """,
        """
        class Test(SmokeTest):
            def tearDown(self):
                self.skipTest("why not")

            def test_skipped(self):
                pass
        """,
        """
        @unittest.skip("why not")
        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                raise RuntimeError("of a skipped class")

            def test_skipped(self):
                self.fail()
        """,
        """
        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                raise unittest.SkipTest("why not")

            def test_skipped(self):
                self.fail()
        """,
        """
        def setUpModule():
            raise unittest.SkipTest("why not")

        class Test(SmokeTest):
            def test_skipped(self):
                self.fail()
        """,
    ],
    ids=[
        "decorator",
        "decorator of async",
        "in test",
        "in async test",
        "in setUp",
        "in tearDown",
        "class",
        "in setUpClass",
        "in setUpModule",
    ],
)
def test_skip__is_reported_with_its_reason(run_smoke: RunSmoke, source: str) -> None:
    """A test may be skipped in every way that unittest knows; the run passes."""
    report = run_smoke(source)
    assert outcomes(report) == {"test_skipped": "skipped"}
    assert "why not" in result_of(report, "test_skipped").message
    assert report.passed


def test_skip__in_tear_down_class_is_no_result(run_smoke: RunSmoke) -> None:
    """A tearDownClass that skips has nothing more to say of the tests."""
    report = run_smoke("""
        class Test(SmokeTest):
            @classmethod
            def tearDownClass(cls):
                raise unittest.SkipTest("nothing to tear down")

            def test_it(self):
                pass
    """)
    assert outcomes(report) == {"test_it": "passed"}


def test_expected_failure__passes_and_unexpected_success_fails(run_smoke: RunSmoke) -> None:
    """Marked as expectedFailure, a test that fails passes, and the other way round."""
    report = run_smoke("""
        class Test(SmokeTest):
            @unittest.expectedFailure
            def test_fails(self):
                self.fail("as expected")

            @unittest.expectedFailure
            def test_fails_in_subtest(self):
                with self.subTest():
                    raise ValueError("as expected")

            @unittest.expectedFailure
            async def test_fails_in_async(self):
                self.fail("as expected")

            @unittest.expectedFailure
            def test_succeeds(self):
                pass

            @unittest.expectedFailure
            async def test_succeeds_in_async(self):
                pass

        @unittest.expectedFailure
        class OfTheClass(SmokeTest):
            def test_fails_by_class(self):
                self.fail("as expected")
    """)
    assert outcomes(report) == {
        "test_fails": "passed",
        "test_fails_in_async": "passed",
        "test_fails_in_subtest": "passed",
        "test_succeeds": "failed",
        "test_succeeds_in_async": "failed",
        "test_fails_by_class": "passed",
    }
    assert result_of(report, "test_fails").message == ""
    for name in ("test_succeeds", "test_succeeds_in_async"):
        assert result_of(report, name).message.startswith("unexpected success")


def test_cleanups__run_in_reverse_and_after_a_failing_set_up(run_smoke: RunSmoke) -> None:
    """Cleanups run last in, first out, after tearDown, and when setUp failed; as do contexts."""
    report = run_smoke(
        """
        import contextlib

        seen = []

        class First(SmokeTest):
            def setUp(self):
                self.addCleanup(seen.append, "cleanup 1")
                self.addCleanup(seen.append, "cleanup 2")
                self.enterContext(contextlib.closing(self))

            def close(self):
                seen.append("context")

            def tearDown(self):
                seen.append("tearDown")

            def test_first(self):
                seen.append("test")

        class FailingSetUp(SmokeTest):
            def setUp(self):
                self.addCleanup(seen.append, "cleanup 3")
                raise ValueError("no set-up")

            def test_second(self):
                seen.append("never")

        class Third(SmokeTest):
            def test_third(self):
                self.assertEqual(
                    seen,
                    ["test", "tearDown", "context", "cleanup 2", "cleanup 1", "cleanup 3"],
                )
    """,
        workers=0,
    )
    assert outcomes(report) == {
        "test_first": "passed",
        "test_second": "errored",
        "test_third": "passed",
    }
    assert result_of(report, "test_second").message == "no set-up"


def test_cleanup__that_fails_fails_the_test(run_smoke: RunSmoke) -> None:
    """An exception in a cleanup counts like one in the test, and the other cleanups still run."""
    report = run_smoke("""
        seen = []

        class Test(SmokeTest):
            def test_1(self):
                self.addCleanup(seen.append, "other cleanup")
                self.addCleanup(self.fail, "in cleanup")

            def test_2(self):
                self.assertEqual(seen, ["other cleanup"])
    """)
    assert outcomes(report) == {"test_1": "failed", "test_2": "passed"}
    assert result_of(report, "test_1").message == "in cleanup"


def test_fixtures__of_class_and_module_run_as_in_unittest(run_smoke: RunSmoke) -> None:
    """Each fixture and cleanup of a class and a module runs once, in the order of unittest."""
    source = """
        import contextlib

        seen = []

        @contextlib.contextmanager
        def context():
            seen.append("enter")
            yield
            seen.append("exit")

        def setUpModule():
            unittest.addModuleCleanup(seen.append, "module cleanup")
            seen.append("setUpModule")

        def tearDownModule():
            seen.append("tearDownModule")

        class Test(SmokeTest):
            @classmethod
            def setUpClass(cls):
                super().setUpClass()
                cls.addClassCleanup(seen.append, "class cleanup")
                cls.enterClassContext(context())
                seen.append("setUpClass")

            @classmethod
            def tearDownClass(cls):
                seen.append("tearDownClass")
                super().tearDownClass()

            def test_a(self):
                seen.append("a")

            def test_b(self):
                seen.append("b")
    """
    report = run_smoke(source)
    assert outcomes(report) == {"test_a": "passed", "test_b": "passed"}
    assert sys.modules["app0.smoke"].seen == [
        "setUpModule",
        "enter",
        "setUpClass",
        "a",
        "b",
        "tearDownClass",
        "exit",
        "class cleanup",
        "tearDownModule",
        "module cleanup",
    ]


def test_class_cleanup__that_a_test_added_runs_without_class_fixtures(run_smoke: RunSmoke) -> None:
    """A class cleanup runs in the same run, whoever added it, as in unittest."""
    run_smoke("""
        seen = []

        class Test(SmokeTest):
            def test_it(self):
                self.addClassCleanup(seen.append, "class cleanup")
    """)
    assert sys.modules["app0.smoke"].seen == ["class cleanup"]


@pytest.mark.parametrize("workers", [0, 2])
def test_set_up_class__may_be_a_static_method(run_smoke: RunSmoke, workers: int) -> None:
    """As unittest only calls them, fixtures of a class need not be class methods."""
    report = run_smoke(
        """
        seen = []

        class Test(SmokeTest):
            @staticmethod
            def setUpClass():
                seen.append("setUpClass")

            def test_it(self):
                self.assertEqual(seen, ["setUpClass"])
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_it": "passed"}


@uses_databases
def test_async__is_skipped_in_a_process_of_gevent(
    run_smoke: RunSmoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There an event loop would run on the thread that is everybody's."""
    monkey = SimpleNamespace(is_module_patched=lambda module: module == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    report = run_smoke("""
        class Test(SmokeTest):
            async def test_async(self): self.fail()
            def test_sync(self): pass
    """)
    assert outcomes(report) == {"test_async": "skipped", "test_sync": "passed"}
    assert "cannot run in a gevent process" in result_of(report, "test_async").message


@uses_databases
@pytest.mark.parametrize("workers", [0, 2])
def test_async__uses_the_connection_of_set_up(run_smoke: RunSmoke, workers: int) -> None:
    """An async test sees on its connection what setUp wrote, and so does tearDown afterwards."""
    report = run_smoke(
        """
        import asyncio
        import threading
        from asgiref.sync import sync_to_async

        class Test(SmokeTest):
            def setUp(self):
                Account.objects.create(name="sync")
                self.connection, self.thread = connection.connection, threading.get_ident()

            def tearDown(self):
                self.assertEqual(Account.objects.count(), 2)

            async def test_it(self):
                await asyncio.sleep(0)
                self.assertTrue(await Account.objects.filter(name="sync").aexists())
                await Account.objects.acreate(name="async")
                here = await sync_to_async(lambda: connection.connection)()
                self.assertIs(here, self.connection)
                self.assertEqual(await sync_to_async(threading.get_ident)(), self.thread)
        """,
        workers=workers,
    )
    assert outcomes(report) == {"test_it": "passed"}


@uses_databases
def test_async__may_fail_in_every_way(run_smoke: RunSmoke) -> None:
    """Failures, errors and subtests of async tests are those of the others."""
    report = run_smoke("""
        class Test(SmokeTest):
            async def test_error(self):
                raise ValueError("odd")

            async def test_failure(self):
                self.assertEqual(await Account.objects.acount(), 1)

            async def test_subtest(self):
                for n in range(2):
                    with self.subTest(n=n):
                        self.assertEqual(n, 0)
    """)
    assert outcomes(report) == {
        "test_error": "errored",
        "test_failure": "failed",
        "test_subtest": "failed",
    }
    assert result_of(report, "test_failure").message == "0 != 1"


def test_options__hold_for_async_tests(run_smoke: RunSmoke) -> None:
    """The decorators go on async tests too, and leave them async."""
    report = run_smoke("""
        class Test(SmokeTest):
            @tag("db")
            @options(severity="warning")
            async def test_it(self):
                self.fail("not awaited otherwise")
    """)
    result = result_of(report, "test_it")
    assert result.outcome == "failed"
    assert (result.declaration.severity, result.declaration.tags) == ("warning", ("db",))


def _plain_case() -> type[SmokeTest]:
    class Plain(SmokeTest):
        def test_1_passes(self) -> None:
            with self.subTest():
                pass

        async def test_2_fails(self) -> None:
            self.fail("awaited")

        @unittest.expectedFailure
        async def test_3_fails_as_expected(self) -> None:
            self.fail("awaited")

        @unittest.skip("not now")
        def test_4_is_skipped(self) -> None:
            pass

    return Plain


def test_plain_unittest__runs_smoke_tests() -> None:
    """A SmokeTest runs under any runner of unittest, async tests included."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(_plain_case())
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    assert [test.id().rpartition(".")[2] for test, _ in result.failures] == ["test_2_fails"]
    assert (len(result.errors), len(result.skipped), len(result.expectedFailures)) == (0, 1, 1)


def test_plain_unittest__can_run_a_test_again() -> None:
    """The same instance runs twice with the same end, as some runners do."""
    test = _plain_case()("test_2_fails")
    for _ in range(2):
        result = unittest.TestResult()
        test.run(result)
        assert len(result.failures) == 1


def test_plain_unittest__debug_awaits_async_tests() -> None:
    """`debug`, which runs a test without collecting its result, runs an async test to its end."""
    with pytest.raises(AssertionError, match="awaited"):
        _plain_case()("test_2_fails").debug()


def test_plain_unittest__needs_no_settings(tmp_path: Path) -> None:
    """The class can be imported and run from the command line without a Django site."""
    (tmp_path / "plain.py").write_text(
        "from smoketest import SmokeTest\n"
        "class Plain(SmokeTest):\n"
        "    def test_1(self): pass\n"
        "    async def test_2(self): self.fail('awaited')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "plain"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Ran 2 tests" in done.stderr
    assert "AssertionError: awaited" in done.stderr
    assert "FAILED (failures=1)" in done.stderr


# tag


def test_tag__of_class_method_and_django_add_up(run_smoke: RunSmoke) -> None:
    """A test carries its own tags and those of its classes, set by our tag or by Django's."""
    report = run_smoke("""
        from django.test import tag as django_tag

        @tag("base")
        class Base(SmokeTest):
            pass

        @tag("class", "other")
        @django_tag("django-class")
        class Test(Base):
            @tag("method")
            @django_tag("django")
            @tag("inner")
            def test_tagged(self):
                pass

            def test_untagged(self):
                pass
    """)
    of_class = {"base", "class", "django-class", "other"}
    assert set(result_of(report, "test_untagged").declaration.tags) == of_class
    tags = result_of(report, "test_tagged").declaration.tags
    assert set(tags) == of_class | {"django", "inner", "method"}
    assert list(tags) == sorted(tags)


def test_tag__of_a_subclass_leaves_the_base_alone() -> None:
    """Tags are inherited downwards only, also under Django's tag."""

    @tag("base")
    class Base(SmokeTest):
        pass

    @tag("derived")
    class Derived(Base):
        pass

    assert Base.tags == {"base"}  # type: ignore[attr-defined]
    assert Derived.tags == {"base", "derived"}  # type: ignore[attr-defined]
    django_tag("third")(Derived)
    assert Derived.tags == {"base", "derived", "third"}  # type: ignore[attr-defined]
    assert Base.tags == {"base"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("names", [(), ("",), ("db", ""), (1,), (None,), (lambda: None,)])
def test_tag__refuses_what_is_no_name(names: tuple[Any, ...]) -> None:
    """`tag` needs names; one used without parentheses is told how to write it."""
    with pytest.raises(TypeError, match=r"such as @tag\('db'\)"):
        tag(*names)


# options and class attributes

GOOD_VALUES: list[tuple[str, object]] = [
    ("severity", "critical"),
    ("severity", "warning"),
    ("timeout", 0.1),
    ("timeout", 30),
    ("timeout", None),
    ("slow_after", 0.5),
    ("slow_after", None),
    ("every", 0),
    ("every", 3600.5),
    ("maintainer", ""),
    ("maintainer", "payments"),
    ("runbook_url", "https://wiki.example.org/orders"),
]
GOOD_CLASS_VALUES: list[tuple[str, object]] = [
    ("databases", "__all__"),
    ("databases", set()),
    ("databases", {"default"}),
    ("databases", ["default", "other"]),
    ("read_only", True),
]
BAD_VALUES: list[tuple[str, object, type[Exception]]] = [
    ("severity", "urgent", ValueError),
    ("severity", None, ValueError),
    ("severity", ["critical"], ValueError),
    ("timeout", 0, ValueError),
    ("timeout", -1, ValueError),
    ("timeout", float("inf"), ValueError),
    ("timeout", float("nan"), ValueError),
    ("timeout", "5", TypeError),
    ("timeout", True, TypeError),
    ("slow_after", 0.0, ValueError),
    ("slow_after", "1s", TypeError),
    ("every", -0.1, ValueError),
    ("every", None, TypeError),
    ("maintainer", None, TypeError),
    ("maintainer", 3, TypeError),
    ("runbook_url", b"https://", TypeError),
]
BAD_CLASS_VALUES: list[tuple[str, object, type[Exception]]] = [
    ("databases", "default", TypeError),
    ("databases", b"default", TypeError),
    ("databases", [1], TypeError),
    ("databases", None, TypeError),
    ("read_only", 1, TypeError),
    ("read_only", "yes", TypeError),
]


@pytest.mark.parametrize(("name", "value"), GOOD_VALUES)
def test_options__takes_good_values(name: str, value: object) -> None:
    """What a class may declare, `options` may override for a method."""

    @options(**{name: value})
    def test_it() -> None:
        pass

    assert getattr(test_it, OPTIONS_ATTRIBUTE) == {name: value}


@pytest.mark.parametrize(("name", "value", "error"), BAD_VALUES)
def test_options__refuses_wrong_values(name: str, value: object, error: type[Exception]) -> None:
    """A wrong value is refused where it is written, with its name, itself and what is allowed."""
    with pytest.raises(error) as caught:
        options(**{name: value})
    assert f"options(): {name} is {value!r}; it must be " in str(caught.value)


def test_options__merge(run_smoke: RunSmoke) -> None:
    """Stacked options add up, the outer ones win; what they leave out, the class declares."""
    report = run_smoke("""
        class Test(SmokeTest):
            maintainer, every, timeout = "payments", 60, 3

            @options(timeout=2)
            @options(timeout=1, severity="warning")
            def test_it(self):
                pass
    """)
    declared = result_of(report, "test_it").declaration
    assert (declared.timeout, declared.severity) == (2, "warning")
    assert (declared.maintainer, declared.every) == ("payments", 60)


def test_options__of_an_overridden_method_are_gone(run_smoke: RunSmoke) -> None:
    """Options belong to the function: a subclass that overrides it starts anew."""
    report = run_smoke("""
        class Base(SmokeTest):
            @options(severity="warning")
            def test_it(self):
                pass

        class Derived(Base):
            def test_it(self):
                pass
    """)
    assert result_of(report, "Base.test_it").declaration.severity == "warning"
    assert result_of(report, "Derived.test_it").declaration.severity == "critical"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("time_out", " Did you mean timeout?"), ("serverity", " Did you mean severity?")],
)
def test_options__suggest_a_name(name: str, hint: str) -> None:
    """An unknown option is refused, with those that there are and the likely one."""
    with pytest.raises(TypeError) as caught:
        options(**{name: 1})
    assert str(caught.value).startswith(f"options() has no option {name!r}; it takes severity, ")
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize("name", ["databases", "read_only", "zzz"])
def test_options__refuse_what_belongs_to_the_class(name: str) -> None:
    """The databases and whether they may be written cannot differ between methods."""
    with pytest.raises(TypeError) as caught:
        options(**{name: True})
    known = ", ".join(METHOD_OPTIONS)
    assert str(caught.value) == f"options() has no option {name!r}; it takes {known}."


def test_options__refuse_a_class() -> None:
    """On a class one is told to set attributes, named by the class."""
    with pytest.raises(TypeError, match="set attributes on SmokeTest instead"):
        options(timeout=1)(SmokeTest)


@pytest.mark.parametrize(("name", "value"), GOOD_VALUES + GOOD_CLASS_VALUES)
def test_class_attributes__take_good_values(name: str, value: object) -> None:
    """Every declared value is left as it was written."""
    assert getattr(type("Good", (SmokeTest,), {name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "error"), BAD_VALUES + BAD_CLASS_VALUES)
def test_class_attributes__refuse_wrong_values(
    name: str, value: object, error: type[Exception]
) -> None:
    """A wrong value is refused when the class is made, with the class, the value and a way out."""
    with pytest.raises(error) as caught:
        type("Bad", (SmokeTest,), {name: value})
    assert str(caught.value).startswith(f"Bad.{name} is {value!r}; it must be ")


def test_class_attributes__refuse_the_wrong_values_of_mixins() -> None:
    """What a mixin declares is validated in the class that it is mixed into."""

    class Mixin:
        timeout = "soon"

    with pytest.raises(TypeError, match=r"Mixed\.timeout is 'soon'; it must be a number of"):
        type("Mixed", (Mixin, SmokeTest), {})


def test_class_attributes__a_wrong_value_is_an_error_of_the_module(run_smoke: RunSmoke) -> None:
    """On a site, it is a smoke module that cannot be imported."""
    report = run_smoke("""
        class Test(SmokeTest):
            severity = "urgent"

            def test_it(self):
                pass
    """)
    (result,) = report.results
    assert (result.id, result.outcome) == ("app0.smoke", "errored")
    assert result.message == (
        "cannot be imported: Test.severity is 'urgent'; it must be 'critical' or 'warning'."
    )
