"""The API for authors of smoke tests: `SmokeTest`, `tag` and `options`."""

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

# unittest API


def test_assertions__failed_and_errored(run_smoke: RunSmoke) -> None:
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


def test_assert_statement(run_smoke: RunSmoke) -> None:
    """A bare assert shows its source on one line; a message takes precedence."""
    report = run_smoke("""
        class Test(SmokeTest):
            def test_one_line(self):
                total = 2
                assert total == 3

            def test_several_lines(self):
                assert isinstance(
                    self,
                    str,
                )

            def test_message(self):
                assert 1 == 2, "wrong total"

            def test_raise(self):
                raise AssertionError
    """)
    assert {result.id.rpartition(".")[2]: result.message for result in report.results} == {
        "test_one_line": "assert total == 3",
        "test_several_lines": "assert isinstance( self, str, )",
        "test_message": "wrong total",
        "test_raise": "AssertionError",
    }


@uses_databases
def test_assertions__of_django(run_smoke: RunSmoke) -> None:
    """The assertions of django.test.TestCase work, and fail with their messages."""
    report = run_smoke("""
        from django.http import HttpResponse
        from django.test import TestCase

        class Test(SmokeTest):
            @classmethod
            def setUpTestData(cls):
                cls.account = Account.objects.create(name="of the class")

            def test_assertions(self):
                response = HttpResponse("<p>Hello</p>")
                self.assertContains(response, "Hello")
                self.assertNotContains(response, "Bye")
                self.assertHTMLEqual("<p> Hello </p>", "<p>Hello</p>")
                self.assertInHTML("<b>x</b>", "<p><b>x</b></p>")
                self.assertJSONEqual('{"a": 1}', {"a": 1})
                self.assertXMLEqual("<a b='1'/>", "<a b='1'></a>")
                self.assertURLEqual("/?a=1&b=2", "/?b=2&a=1")
                with self.assertRaisesMessage(ValueError, "bad"):
                    raise ValueError("bad")

            def test_database(self):
                with self.assertNumQueries(1):
                    found = Account.objects.filter(name="of the class")
                    self.assertQuerySetEqual(found, [self.account])
                with self.captureOnCommitCallbacks() as callbacks:
                    transaction.on_commit(print)
                self.assertEqual(callbacks, [print])

            def test_data__changed(self):
                self.account.name = "changed"

            def test_data__changed_later(self):
                self.assertEqual(self.account.name, "of the class")

            def test_failure(self):
                self.assertNumQueries(1, lambda: None)

            def test_unknown(self):
                self.assertContians("a", "b")

            def test_all(self):
                for name in dir(TestCase):
                    if name.startswith("assert"):
                        getattr(self, name)
    """)
    assert outcomes(report) == {
        "test_all": "passed",
        "test_assertions": "passed",
        "test_data__changed": "passed",
        "test_data__changed_later": "passed",
        "test_database": "passed",
        "test_failure": "failed",
        "test_unknown": "errored",
    }, [result.message for result in report.results]
    assert "0 queries executed, 1 expected" in result_of(report, "test_failure").message
    assert "has no attribute 'assertContians'" in result_of(report, "test_unknown").message


@uses_databases
@pytest.mark.parametrize("then", ["pass", "raise ValueError(found)"])
def test_set_up_test_data__in_two_runs(run_smoke: RunSmoke, then: str) -> None:
    """A run does not find the objects of the run before, whose rows are rolled back."""
    report = run_smoke(
        f"""
        class Base(SmokeTest):
            account = None

            @classmethod
            def setUpTestData(cls):
                found = cls.account, getattr(cls, "other", None)
                cls.account = cls.other = Account.objects.create(name="of the class")
                {then}
                cls.found = found

            def test_it(self):
                self.assertEqual(self.found, (None, None))
                self.assertIs(self.account, self.other)
                self.account.refresh_from_db()

        class Test(Base):
            pass
        """,
        workers=1,  # classes that run in parallel share the attributes of their base
    )
    again = run_smoke("class Test(SmokeTest):\n    pass\n", workers=1)  # and the module above
    for one in (report, again):
        assert len(one.results) == 2
        assert {result.message for result in one.results} <= {"", "setUpClass: (None, None)"}


@pytest.mark.parametrize(
    "name", ["setUp", "tearDown", "setUpClass", "tearDownClass", "setUpTestData", "asyncSetUp"]
)
def test_fixture__coroutine(name: str) -> None:
    """A coroutine would never be awaited, and the test would run without its fixture."""

    async def fixture(_test: object) -> None: ...

    method = classmethod(fixture) if name.endswith(("Class", "Data")) else fixture
    with pytest.raises(TypeError, match=rf"^Test.{name}\(\) would never be awaited: tests can be"):
        type("Test", (SmokeTest,), {name: method})


@pytest.mark.parametrize("name", ["SimpleTestCase", "TestCase", "TransactionTestCase"])
def test_base__of_django(name: str) -> None:
    """Django's test cases change connections of the process, so they are refused at import."""
    import django.test  # noqa: PLC0415

    with pytest.raises(TypeError, match=f"may not derive from .*{name[-12:]}|SimpleTestCase"):
        type("Test", (SmokeTest, getattr(django.test, name)), {})
    with pytest.raises(TypeError, match="serialized_rollback is not supported: a smoke test never"):
        type("Test", (SmokeTest,), {"serialized_rollback": True})


def test_failure_exception(run_smoke: RunSmoke) -> None:
    """An exception of the class's `failureException` is a failure."""
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


def test_long_message__default(run_smoke: RunSmoke) -> None:
    """A custom message replaces the standard message unless `longMessage` is set."""
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


def test_subtest__worst_outcome(run_smoke: RunSmoke) -> None:
    """Several failed subtests are one result with the worst outcome and the number of others."""
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


def test_subtest__skipped(run_smoke: RunSmoke) -> None:
    """A skipped subtest neither skips the test nor hides a failed subtest."""
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


def test_subtest__failures_outside(run_smoke: RunSmoke) -> None:
    """Failures after a failed subtest, including in tearDown, belong to the same result."""
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
def test_skip__reason(run_smoke: RunSmoke, source: str) -> None:
    """A test can be skipped in every way of unittest; the run passes."""
    report = run_smoke(source)
    assert outcomes(report) == {"test_skipped": "skipped"}
    assert "why not" in result_of(report, "test_skipped").message
    assert report.passed


def test_skip__in_tear_down_class(run_smoke: RunSmoke) -> None:
    """Skipping in tearDownClass adds no result."""
    report = run_smoke("""
        class Test(SmokeTest):
            @classmethod
            def tearDownClass(cls):
                raise unittest.SkipTest("nothing to tear down")

            def test_it(self):
                pass
    """)
    assert outcomes(report) == {"test_it": "passed"}


def test_expected_failure(run_smoke: RunSmoke) -> None:
    """An expected failure passes, and an unexpected success fails."""
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
        class ExpectedFailure(SmokeTest):
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


def test_cleanups__order(run_smoke: RunSmoke) -> None:
    """Cleanups and contexts run in reverse order after tearDown, and after a failed setUp."""
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


def test_cleanup__failure(run_smoke: RunSmoke) -> None:
    """A failed cleanup fails the test, and the other cleanups run."""
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


def test_fixtures__order(run_smoke: RunSmoke) -> None:
    """Class and module fixtures and their cleanups run once, in the order of unittest."""
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


def test_class_cleanup__added_by_a_test(run_smoke: RunSmoke) -> None:
    """A class cleanup that a test adds runs at the end of its class."""
    run_smoke("""
        seen = []

        class Test(SmokeTest):
            def test_it(self):
                self.addClassCleanup(seen.append, "class cleanup")
    """)
    assert sys.modules["app0.smoke"].seen == ["class cleanup"]


@pytest.mark.parametrize("workers", [0, 2])
def test_set_up_class__static_method(run_smoke: RunSmoke, workers: int) -> None:
    """Class fixtures may be static methods."""
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
def test_async__gevent(run_smoke: RunSmoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Async tests are skipped under gevent, where the event loop would block other greenlets."""
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
def test_async__connection(run_smoke: RunSmoke, workers: int) -> None:
    """An async test and its setUp and tearDown share a connection and a thread."""
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
def test_async__outcomes(run_smoke: RunSmoke) -> None:
    """Async tests have the same failures, errors and subtests as sync tests."""
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


def test_async__decorators(run_smoke: RunSmoke) -> None:
    """An async test remains async when decorated."""
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


def test_unittest__runs_smoke_tests() -> None:
    """Any unittest runner can run a SmokeTest, including its async tests."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(_plain_case())
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    assert [test.id().rpartition(".")[2] for test, _ in result.failures] == ["test_2_fails"]
    assert (len(result.errors), len(result.skipped), len(result.expectedFailures)) == (0, 1, 1)


def test_unittest__repeated_run() -> None:
    """The same instance can run twice with the same outcome."""
    test = _plain_case()("test_2_fails")
    for _ in range(2):
        result = unittest.TestResult()
        test.run(result)
        assert len(result.failures) == 1


def test_unittest__debug() -> None:
    """`debug()` awaits async tests."""
    with pytest.raises(AssertionError, match="awaited"):
        _plain_case()("test_2_fails").debug()


def test_unittest__without_settings(tmp_path: Path) -> None:
    """The command line of unittest can run smoke tests without a Django site."""
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


def test_tag__inheritance(run_smoke: RunSmoke) -> None:
    """A test has its own tags and those of its classes, set with either tag decorator."""
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
    class_tags = {"base", "class", "django-class", "other"}
    assert set(result_of(report, "test_untagged").declaration.tags) == class_tags
    tags = result_of(report, "test_tagged").declaration.tags
    assert set(tags) == class_tags | {"django", "inner", "method"}
    assert list(tags) == sorted(tags)


def test_tag__subclass_does_not_change_base() -> None:
    """Tags of a subclass are not added to the base class."""

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
def test_tag__invalid_names(names: tuple[Any, ...]) -> None:
    """Invalid names and usage without parentheses raise TypeError."""
    with pytest.raises(TypeError, match=r"such as @tag\('db'\)"):
        tag(*names)


# Options and class attributes

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
def test_options__valid(name: str, value: object) -> None:
    """`options` accepts every option of a class."""

    @options(**{name: value})
    def test_it() -> None:
        pass

    assert getattr(test_it, OPTIONS_ATTRIBUTE) == {name: value}


@pytest.mark.parametrize(("name", "value", "error"), BAD_VALUES)
def test_options__invalid(name: str, value: object, error: type[Exception]) -> None:
    """An invalid value raises an exception with the option, the value and what is allowed."""
    with pytest.raises(error) as caught:
        options(**{name: value})
    assert f"options(): {name} is {value!r}; it must be " in str(caught.value)


def test_options__stacked(run_smoke: RunSmoke) -> None:
    """Stacked options are merged: outer options win, and the class supplies the others."""
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


def test_options__overridden_method(run_smoke: RunSmoke) -> None:
    """A method that overrides another does not inherit its options."""
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
def test_options__unknown(name: str, hint: str) -> None:
    """An unknown option is reported with the valid ones and a suggestion."""
    with pytest.raises(TypeError) as caught:
        options(**{name: 1})
    assert str(caught.value).startswith(f"options() has no option {name!r}; it takes severity, ")
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize("name", ["databases", "read_only", "zzz"])
def test_options__class_only(name: str) -> None:
    """`databases` and `read_only` cannot be set for a method."""
    with pytest.raises(TypeError) as caught:
        options(**{name: True})
    known = ", ".join(METHOD_OPTIONS)
    assert str(caught.value) == f"options() has no option {name!r}; it takes {known}."


def test_options__on_a_class() -> None:
    """On a class, the error message recommends attributes."""
    with pytest.raises(TypeError, match="set attributes on SmokeTest instead"):
        options(timeout=1)(SmokeTest)


@pytest.mark.parametrize(("name", "value"), GOOD_VALUES + GOOD_CLASS_VALUES)
def test_class_attributes__valid(name: str, value: object) -> None:
    """A valid value is stored unchanged."""
    assert getattr(type("Good", (SmokeTest,), {name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "error"), BAD_VALUES + BAD_CLASS_VALUES)
def test_class_attributes__invalid(name: str, value: object, error: type[Exception]) -> None:
    """An invalid value raises an exception at class definition that names class and value."""
    with pytest.raises(error) as caught:
        type("Bad", (SmokeTest,), {name: value})
    assert str(caught.value).startswith(f"Bad.{name} is {value!r}; it must be ")


def test_class_attributes__mixin() -> None:
    """The attributes of a mixin are validated in the class that uses it."""

    class Mixin:
        timeout = "soon"

    with pytest.raises(TypeError, match=r"Mixed\.timeout is 'soon'; it must be a number of"):
        type("Mixed", (Mixin, SmokeTest), {})


def test_class_attributes__collection_error(run_smoke: RunSmoke) -> None:
    """An invalid attribute makes the smoke module a collection error."""
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
