"""Which smoke tests a site has, and what becomes of modules that cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smoketest.results import Report, Selection
from smoketest.runner.discovery import Suite
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, IMPORTS, Apps, RunSmoke, options, outcomes, result_of

#: A smoke module with one test.
PASSING = "from smoketest import SmokeTest\nclass Test(SmokeTest):\n    def test_it(self): pass\n"

#: Ways in which the import of a module can end badly, and what then is in the message.
BROKEN = {
    "missing import": ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'"),
    "missing name": ("from app0 import nothing", "cannot import name 'nothing'"),
    "itself": ("import app0.smoke.nothing", "No module named 'app0.smoke.nothing'"),
    "syntax": ("def broken(:", "invalid syntax"),
    "null byte": ("\0", "null bytes"),
    "SystemExit": ("raise SystemExit(3)", "3"),
    "exit()": ("import sys; sys.exit('gone')", "gone"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
    "BaseException": ("raise BaseException('base')", "base"),
    "SkipTest": ("import unittest; raise unittest.SkipTest('not here')", "not here"),
    "__str__": ("class E(Exception):\n  def __str__(self): return 1 / 0\nraise E", "ZeroDivision"),
    "recursion": ("def f(): f()\nf()", "recursion"),
}


def discover(apps: Apps, *entries: str, **selection: tuple[str, ...]) -> Suite:
    with apps.installed(*entries):
        return find(Selection(**selection), options())


def ids(suite: Suite) -> list[str]:
    return [declaration.id for declaration in suite.declarations]


def run_suite(suite: Suite) -> Report:
    return run(suite, EVERYTHING, options(), abandoned=LocallyAbandoned(), carried={})


# Where the tests are


def test_apps__entries_may_be_app_configs(apps: Apps) -> None:
    """An app that is installed by its config is asked for its name and label."""
    config = "from django.apps import AppConfig\nclass PollsConfig(AppConfig):\n  name = 'app0'\n"
    apps.add(files={"apps.py": config + "  label = 'polls'\n", "smoke.py": PASSING})
    suite = discover(apps, "app0.apps.PollsConfig")
    (declaration,) = suite.declarations
    assert (declaration.id, declaration.app) == ("app0.smoke.Test.test_it", "polls")


def test_apps__may_lie_in_a_package(apps: Apps) -> None:
    """An app of a dotted name has its smoke module below that name."""
    apps.add(name="app_site", files={"polls/__init__.py": "", "polls/smoke.py": PASSING})
    suite = discover(apps, "app_site.polls")
    (declaration,) = suite.declarations
    assert (declaration.id, declaration.app) == ("app_site.polls.smoke.Test.test_it", "polls")


def test_apps__without_smoke_module_have_no_tests(apps: Apps) -> None:
    """Most apps have no smoke module; that is no error."""
    apps.add()
    apps.add("", name="app_empty")
    suite = discover(apps)
    assert suite.is_empty
    assert suite == Suite()


def test_package__submodules_of_any_depth_are_found(apps: Apps) -> None:
    """A package `smoke` may hold tests itself, in its modules and in packages inside."""
    apps.add(
        files={
            "smoke/__init__.py": PASSING,
            "smoke/first.py": PASSING,
            "smoke/deep/__init__.py": "",
            "smoke/deep/er/__init__.py": PASSING,
            "smoke/deep/er/last.py": PASSING,
            "smoke/no_python.txt": "",
        }
    )
    assert sorted(ids(discover(apps))) == [
        "app0.smoke.Test.test_it",
        "app0.smoke.deep.er.Test.test_it",
        "app0.smoke.deep.er.last.Test.test_it",
        "app0.smoke.first.Test.test_it",
    ]


def test_package__may_lack_an_init(apps: Apps) -> None:
    """A folder `smoke` is a package even if it has no ``__init__.py``."""
    apps.add(files={"smoke/first.py": PASSING})
    assert ids(discover(apps)) == ["app0.smoke.first.Test.test_it"]


@pytest.mark.parametrize("skipped", ["app0", "polls"])
def test_skip_apps__takes_names_and_labels(apps: Apps, skipped: str) -> None:
    """An app that is left out is not even imported, whichever way it is named."""
    config = "from django.apps import AppConfig\nclass PollsConfig(AppConfig):\n  name = 'app0'\n"
    apps.add(files={"apps.py": config + "  label = 'polls'\n", "smoke.py": "1 / 0"})
    apps.add(name="app0_other", files={"smoke.py": PASSING})
    with apps.installed("app0.apps.PollsConfig", "app0_other"):
        suite = find(EVERYTHING, options(skip_apps=[skipped]))
    assert ids(suite) == ["app0_other.smoke.Test.test_it"]
    assert suite.collection_errors == ()
    assert "app0.smoke" not in sys.modules


# Each class once


def test_classes__run_in_the_module_that_defines_them(apps: Apps) -> None:
    """A class that others import, rename or re-export runs once; their own subclasses run too."""
    apps.add("""
        class Test(SmokeTest):
            def test_it(self):
                pass

        Alias = Test
    """)
    apps.add("""
        from app0.smoke import Alias, Test

        class Derived(Test):
            pass
    """)
    apps.add(
        name="app_package",
        files={"smoke/__init__.py": "from .inner import Test", "smoke/inner.py": PASSING},
    )
    assert ids(discover(apps)) == [
        "app0.smoke.Test.test_it",
        "app1.smoke.Derived.test_it",
        "app_package.smoke.inner.Test.test_it",
    ]


def test_classes__keep_the_order_of_their_definition(apps: Apps) -> None:
    """Apps, then classes, are in the order in which they are written; methods in unittest's."""
    apps.add(
        """
        class Zebra(SmokeTest):
            def test_b(self): pass
            def test_a(self): pass
            def helper(self): pass
            def testing(self): pass
            test_value = 3

        class Apple(SmokeTest):
            def test_c(self): pass

        class NotASmokeTest(unittest.TestCase):
            def test_d(self): pass

        class WithoutTests(SmokeTest):
            pass
        """,
        name="app_z",
    )
    apps.add("class Test(SmokeTest):\n    def test_it(self): pass", name="app_a")
    suite = discover(apps)
    assert ids(suite) == [
        "app_z.smoke.Zebra.test_a",
        "app_z.smoke.Zebra.test_b",
        "app_z.smoke.Apple.test_c",
        "app_a.smoke.Test.test_it",
    ]
    assert [smoke_class.case.__name__ for smoke_class in suite.classes] == [
        "Zebra",
        "Apple",
        "Test",
    ]


def test_classes__made_by_a_function_are_told_apart(apps: Apps) -> None:
    """Classes of one module that share a name each run and have a result of their own."""
    apps.add("""
        def make(expected):
            class Test(SmokeTest):
                def test_it(self):
                    self.assertEqual(expected, 1)
            return Test

        One = make(1)
        Two = make(2)
    """)
    suite = discover(apps)
    assert len(set(ids(suite))) == 2
    report = run_suite(suite)
    assert sorted(result.outcome for result in report.results) == ["failed", "passed"]


def test_classes__made_by_type_are_told_apart(apps: Apps) -> None:
    """By their names in the module; the one that is where its own name says keeps that."""
    apps.add("""
        for name in ("Mail", "Orders"):
            globals()[name] = type("QueueTest", (SmokeTest,), {
                "__module__": __name__, "test_it": lambda self: None
            })

        class QueueTest(Mail):
            pass
    """)
    suite = discover(apps)
    expected = [f"app0.smoke.{name}.test_it" for name in ("Mail", "Orders", "QueueTest")]
    assert ids(suite) == expected
    report = run_suite(suite)
    assert [(result.id, result.outcome) for result in report.results] == [
        (test_id, "passed") for test_id in expected
    ]


# Modules that cannot be imported


@pytest.mark.parametrize(("source", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_module__is_a_critical_error_that_no_filter_hides(
    apps: Apps, source: str, message: str
) -> None:
    """Whatever its import raises becomes an errored result of its name; the others still run."""
    apps.add(files={"smoke.py": source})
    apps.add("class Test(SmokeTest):\n    def test_it(self): pass")
    for selection in ({}, {"names": ("app1",)}, {"tags": ("none",)}, {"excluded_tags": ("db",)}):
        suite = discover(apps, **selection)
        (error,) = suite.collection_errors
        assert (error.id, error.outcome, error.is_critical) == ("app0.smoke", "errored", True)
        assert error.declaration.is_collection_error
        assert error.declaration.app == "app0"
        assert message in error.message
        assert error.exception
        assert not suite.is_empty
        assert ids(suite) == ([] if "tags" in selection else ["app1.smoke.Test.test_it"])
    report = run_suite(suite)
    assert outcomes(report) == {"smoke": "errored", "test_it": "passed"}
    assert not report.passed


def test_broken_module__traceback_begins_in_the_module(apps: Apps) -> None:
    """The traceback leaves out the import system and us, and shows where it happened."""
    apps.add(files={"smoke.py": "def fail():\n    return 1 / 0\nfail()\n"})
    (error,) = discover(apps).collection_errors
    first_frame = error.traceback.splitlines()[1]
    assert "app0/smoke.py" in first_frame
    assert "return 1 / 0" in error.traceback
    assert "importlib" not in error.traceback


def test_broken_submodule__leaves_its_siblings_running(apps: Apps) -> None:
    """One module of a package that cannot be imported is named; those next to it run."""
    apps.add(
        files={
            "smoke/__init__.py": "",
            "smoke/a.py": PASSING,
            "smoke/b.py": "1 / 0",
            "smoke/c/__init__.py": "1 / 0",
            "smoke/c/lost.py": PASSING,
            "smoke/d.py": PASSING,
        }
    )
    suite = discover(apps)
    assert ids(suite) == ["app0.smoke.a.Test.test_it", "app0.smoke.d.Test.test_it"]
    assert [error.id for error in suite.collection_errors] == ["app0.smoke.b", "app0.smoke.c"]


@pytest.mark.parametrize("source", ["1 / 0", "import nothing_of_the_kind", "raise SystemExit"])
def test_broken_module__that_was_healed_runs_next_time(apps: Apps, source: str) -> None:
    """A failed import leaves nothing behind that would keep the module from running."""
    apps.add(files={"smoke.py": source})
    assert len(discover(apps).collection_errors) == 1
    (apps.folder / "app0/smoke.py").write_text(PASSING)
    suite = discover(apps)
    assert suite.collection_errors == ()
    assert ids(suite) == ["app0.smoke.Test.test_it"]


@pytest.mark.parametrize(
    "source",
    [
        "Test.tags = None",
        "Test.severity = 'urgent'",
        "Test.databases = None",
        "from django.test import tag as django_tag\ndjango_tag(1, 'a')(Test)",
    ],
    ids=["tags", "severity", "databases", "unsortable tags"],
)
def test_wrong_declaration__is_an_error_of_its_module_alone(apps: Apps, source: str) -> None:
    """What was set on a finished class may be wrong; other modules run all the same."""
    apps.add(files={"smoke.py": f"{PASSING}\n{source}"})
    apps.add(files={"smoke.py": PASSING})
    suite = discover(apps)
    assert "app1.smoke.Test.test_it" in ids(suite)
    assert {error.id for error in suite.collection_errors} <= {"app0.smoke"}


def test_lazy_value__in_a_smoke_module_is_left_alone(apps: Apps) -> None:
    """A lazy object of a smoke module is not evaluated by looking for classes."""
    apps.add("""
        from django.utils.functional import SimpleLazyObject

        first_account = SimpleLazyObject(lambda: 1 / 0)

        class Test(SmokeTest):
            def test_it(self):
                pass
    """)
    suite = discover(apps)
    assert suite.collection_errors == ()
    assert ids(suite) == ["app0.smoke.Test.test_it"]


def test_module_getattr__is_not_asked_for_fixtures(apps: Apps) -> None:
    """A module whose ``__getattr__`` raises has no fixtures, and its tests run."""
    apps.add("""
        def __getattr__(name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise RuntimeError(name)

        class Test(SmokeTest):
            def test_it(self):
                pass
    """)
    assert outcomes(run_suite(discover(apps))) == {"test_it": "passed"}


def test_interrupt__at_import_without_threads_is_the_users(apps: Apps) -> None:
    """Without threads, a KeyboardInterrupt is Ctrl-C, and ends the discovery."""
    apps.add(files={"smoke.py": "raise KeyboardInterrupt"})
    with apps.installed(), pytest.raises(KeyboardInterrupt):
        find(EVERYTHING, options(workers=0))


# Which of them


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), "abcd"),
        (Selection(names=("app0",)), "abc"),
        (Selection(names=("app0.smoke",)), "abc"),
        (Selection(names=("app0.smoke.First",)), "ab"),
        (Selection(names=("app0.smoke.First.test_a", "app1")), "ad"),
        (Selection(names=("app0.smoke.Fir",)), ""),
        (Selection(tags=("db",)), "ac"),
        (Selection(tags=("db", "slow")), "abc"),
        (Selection(excluded_tags=("slow",)), "acd"),
        (Selection(tags=("db",), excluded_tags=("class",)), "a"),
        (Selection(names=("app0.smoke.Second",), tags=("db",)), "c"),
    ],
    ids=str,
)
def test_selection__by_names_and_tags(apps: Apps, selection: Selection, found: str) -> None:
    """Names are dotted prefixes; a test with one of the tags and no excluded one is selected."""
    apps.add("""
        class First(SmokeTest):
            @tag("db")
            def test_a(self): pass

            @tag("slow")
            def test_b(self): pass

        @tag("class", "db")
        class Second(SmokeTest):
            def test_c(self): pass
    """)
    apps.add("class Test(SmokeTest):\n    def test_d(self): pass")
    with apps.installed():
        suite = find(selection, options())
    assert [test_id[-1] for test_id in ids(suite)] == list(found)
    assert suite.is_empty == (found == "")


def test_selection__leaves_out_classes_and_their_fixtures(run_smoke: RunSmoke) -> None:
    """A class without a selected test is no part of the suite: its fixtures do not run."""
    report = run_smoke(
        """
        class First(SmokeTest):
            @classmethod
            def setUpClass(cls):
                raise RuntimeError

            def test_a(self): pass

        class Second(SmokeTest):
            def test_b(self): pass
        """,
        Selection(names=("app0.smoke.Second",)),
    )
    assert outcomes(report) == {"test_b": "passed"}


# What they declare


def test_declaration__holds_what_the_author_declared(apps: Apps) -> None:
    """Every declared value of the class and the method is in the declaration of the test."""
    apps.add('''
        @tag("class")
        class Test(SmokeTest):
            severity = "warning"
            timeout = 3
            slow_after = 0.5
            every = 60
            maintainer = "payments"
            runbook_url = "https://wiki.example.org/"
            databases = {"other", "default"}
            read_only = True

            @tag("method")
            @options(severity="critical", timeout=1, slow_after=0.1, every=0, maintainer="ops",
                     runbook_url="")
            def test_all(self):
                """Orders can be
                   read.

                And more that is not shown.
                """

            def test_class(self):
                pass
    ''')
    first, second = discover(apps).declarations
    assert (first.id, first.app) == ("app0.smoke.Test.test_all", "app0")
    assert (first.severity, first.timeout, first.slow_after) == ("critical", 1, 0.1)
    assert (first.every, first.maintainer, first.runbook_url) == (0, "ops", "")
    assert first.description == "Orders can be read."
    assert first.tags == ("class", "method")
    assert (second.severity, second.timeout, second.slow_after) == ("warning", 3, 0.5)
    assert (second.every, second.maintainer) == (60, "payments")
    assert second.runbook_url == "https://wiki.example.org/"
    assert (second.description, second.tags) == ("", ("class",))
    assert all(d.databases == ("default", "other") and d.read_only for d in (first, second))
    assert not first.is_collection_error


def test_declaration__defaults_are_the_sites(apps: Apps) -> None:
    """What neither class nor method declares, the options of the run say."""
    apps.add("class Test(SmokeTest):\n    def test_it(self): pass")
    with apps.installed():
        (declaration,) = find(EVERYTHING, options(timeout=7, slow_after=2)).declarations
    assert (declaration.timeout, declaration.slow_after) == (7, 2)
    assert (declaration.severity, declaration.every) == ("critical", 0)
    assert (declaration.databases, declaration.read_only) == ("__all__", False)


@pytest.mark.parametrize(
    ("docstring", "shown"),
    [
        ("'''  One line.  '''", "One line."),
        ("''", ""),
        (r"'lone \ud800 surrogate'", "lone ? surrogate"),
    ],
    ids=["stripped", "empty", "surrogate"],
)
def test_description__can_be_shown_anywhere(apps: Apps, docstring: str, shown: str) -> None:
    """The description is one line that every encoding of the outputs can hold."""
    apps.add(
        "class Test(SmokeTest):\n    def test_it(self): pass\n"
        f"Test.test_it.__doc__ = {docstring}"  # as a literal not every Python compiles the last
    )
    (declaration,) = discover(apps).declarations
    assert declaration.description == shown


def test_description__of_great_length_is_cut(apps: Apps) -> None:
    """A docstring of any size keeps its beginning and end."""
    apps.add(f"class Test(SmokeTest):\n    def test_it(self): 'begin {'x' * 5000} end'")
    (declaration,) = discover(apps).declarations
    assert declaration.description.startswith("begin")
    assert declaration.description.endswith("end")
    assert len(declaration.description) < 1100


# When


def test_setup__imports_no_smoke_module(apps: Apps) -> None:
    """Starting the site, its checks and its URLs included, imports no smoke module."""
    apps.add(files={"smoke.py": "print('imported')"})
    program = """
import sys
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ROOT_URLCONF="tests.urls", INSTALLED_APPS=["smoketest", "app0"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.core.checks import run_checks
from django.urls import resolve
resolve("/smoketest/")
run_checks()
assert "smoketest" in sys.modules and "app0" in sys.modules
assert not [name for name in sys.modules if name.endswith(".smoke")]
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{Path(__file__).parents[1]}:{apps.folder}", "HOME": str(apps.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_discovery__happens_in_a_thread_of_its_own(apps: Apps) -> None:
    """An import never runs on the thread that asks, so that the asker can give up on it."""
    apps.add(
        files={
            "smoke.py": IMPORTS
            + "import threading\nNAME = threading.current_thread().name\n"
            + "class Test(SmokeTest):\n    def test_it(self): pass"
        }
    )
    discover(apps)
    assert sys.modules["app0.smoke"].NAME == "smoketest-discovery"


def test_result__of_the_only_name_is_found(run_smoke: RunSmoke) -> None:
    """A selected test is found by its whole id."""
    report = run_smoke(
        "class Test(SmokeTest):\n    def test_it(self): pass\n    def test_it_2(self): pass",
        Selection(names=("app0.smoke.Test.test_it",)),
    )
    assert result_of(report, "test_it").outcome == "passed"
    assert len(report.results) == 1
