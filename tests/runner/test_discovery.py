"""Discovery of smoke tests and reporting of collection errors."""

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

#: Ways in which an import fails, with a part of the message.
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


# Apps and modules


def test_apps__app_config_entry(apps: Apps) -> None:
    """An app installed by its AppConfig is identified by its name and label."""
    config = "from django.apps import AppConfig\nclass PollsConfig(AppConfig):\n  name = 'app0'\n"
    apps.add(files={"apps.py": config + "  label = 'polls'\n", "smoke.py": PASSING})
    suite = discover(apps, "app0.apps.PollsConfig")
    (declaration,) = suite.declarations
    assert (declaration.id, declaration.app) == ("app0.smoke.Test.test_it", "polls")


def test_apps__dotted_name(apps: Apps) -> None:
    """The smoke module of an app with a dotted name is found below that name."""
    apps.add(name="app_site", files={"polls/__init__.py": "", "polls/smoke.py": PASSING})
    suite = discover(apps, "app_site.polls")
    (declaration,) = suite.declarations
    assert (declaration.id, declaration.app) == ("app_site.polls.smoke.Test.test_it", "polls")


def test_apps__without_smoke_tests(apps: Apps) -> None:
    """An app without a smoke module, or with an empty one, is not an error."""
    apps.add()
    apps.add("", name="app_empty")
    suite = discover(apps)
    assert suite.is_empty
    assert suite == Suite()


def test_package__nested_modules(apps: Apps) -> None:
    """Tests are found in a `smoke` package, its modules and its subpackages."""
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


def test_package__without_init(apps: Apps) -> None:
    """A `smoke` directory without ``__init__.py`` is a namespace package."""
    apps.add(files={"smoke/first.py": PASSING})
    assert ids(discover(apps)) == ["app0.smoke.first.Test.test_it"]


@pytest.mark.parametrize("skipped", ["app0", "polls"])
def test_skip_apps__names_and_labels(apps: Apps, skipped: str) -> None:
    """A skipped app is not imported, whether it is given by name or by label."""
    config = "from django.apps import AppConfig\nclass PollsConfig(AppConfig):\n  name = 'app0'\n"
    apps.add(files={"apps.py": config + "  label = 'polls'\n", "smoke.py": "1 / 0"})
    apps.add(name="app0_other", files={"smoke.py": PASSING})
    with apps.installed("app0.apps.PollsConfig", "app0_other"):
        suite = find(EVERYTHING, options(skip_apps=[skipped]))
    assert ids(suite) == ["app0_other.smoke.Test.test_it"]
    assert suite.collection_errors == ()
    assert "app0.smoke" not in sys.modules


# Classes


def test_classes__run_only_where_they_are_defined(apps: Apps) -> None:
    """A class that is imported, aliased or re-exported runs once; subclasses of it run, too."""
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


def test_classes__definition_order(apps: Apps) -> None:
    """Apps and classes keep their order of definition; methods are sorted as in unittest."""
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


def test_classes__created_by_a_function(apps: Apps) -> None:
    """Classes of one module that have the same name each run and have distinct ids."""
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


def test_classes__created_by_type(apps: Apps) -> None:
    """Classes with the same `__name__` are identified by their names in the module."""
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


# Collection errors


@pytest.mark.parametrize(("source", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_collection_error__is_critical_and_not_filtered(
    apps: Apps, source: str, message: str
) -> None:
    """Any exception at import is an errored result with the id of the module; other tests run."""
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


def test_collection_error__traceback(apps: Apps) -> None:
    """The traceback starts in the smoke module, without frames of the import system."""
    apps.add(files={"smoke.py": "def fail():\n    return 1 / 0\nfail()\n"})
    (error,) = discover(apps).collection_errors
    first_frame = error.traceback.splitlines()[1]
    assert "app0/smoke.py" in first_frame
    assert "return 1 / 0" in error.traceback
    assert "importlib" not in error.traceback


def test_collection_error__submodule(apps: Apps) -> None:
    """A submodule that cannot be imported is reported; its sibling modules run."""
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
def test_collection_error__fixed_module(apps: Apps, source: str) -> None:
    """A failed import leaves nothing in `sys.modules` that prevents a later import."""
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
def test_invalid_declaration__fails_only_its_module(apps: Apps, source: str) -> None:
    """An invalid attribute set after the class definition does not affect other modules."""
    apps.add(files={"smoke.py": f"{PASSING}\n{source}"})
    apps.add(files={"smoke.py": PASSING})
    suite = discover(apps)
    assert "app1.smoke.Test.test_it" in ids(suite)
    assert {error.id for error in suite.collection_errors} <= {"app0.smoke"}


def test_lazy_object__is_not_evaluated(apps: Apps) -> None:
    """Discovery does not evaluate a lazy object in a smoke module."""
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


def test_module_getattr__is_not_called_for_fixtures(apps: Apps) -> None:
    """A module ``__getattr__`` that raises does not affect its tests."""
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


def test_keyboard_interrupt__at_import_without_threads(apps: Apps) -> None:
    """Without threads, KeyboardInterrupt is raised to the caller."""
    apps.add(files={"smoke.py": "raise KeyboardInterrupt"})
    with apps.installed(), pytest.raises(KeyboardInterrupt):
        find(EVERYTHING, options(workers=0))


# Selection


@pytest.mark.parametrize(
    ("selection", "expected"),
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
def test_selection__names_and_tags(apps: Apps, selection: Selection, expected: str) -> None:
    """Names match as dotted prefixes; a test needs one of the tags and no excluded tag."""
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
    assert [test_id[-1] for test_id in ids(suite)] == list(expected)
    assert suite.is_empty == (expected == "")


def test_selection__skips_fixtures_of_excluded_classes(run_smoke: RunSmoke) -> None:
    """The fixtures of a class without selected tests do not run."""
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


# Declarations


def test_declaration__all_options(apps: Apps) -> None:
    """A declaration holds every option of the class and the method."""
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


def test_declaration__defaults(apps: Apps) -> None:
    """Options that neither class nor method declares come from the run options."""
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
def test_description__is_encodable(apps: Apps, docstring: str, shown: str) -> None:
    """The description is a single line without characters that UTF-8 cannot encode."""
    apps.add(
        "class Test(SmokeTest):\n    def test_it(self): pass\n"
        f"Test.test_it.__doc__ = {docstring}"  # a literal is not valid in every Python
    )
    (declaration,) = discover(apps).declarations
    assert declaration.description == shown


def test_description__is_truncated(apps: Apps) -> None:
    """A long docstring keeps its beginning and end."""
    apps.add(f"class Test(SmokeTest):\n    def test_it(self): 'begin {'x' * 5000} end'")
    (declaration,) = discover(apps).declarations
    assert declaration.description.startswith("begin")
    assert declaration.description.endswith("end")
    assert len(declaration.description) < 1100


# Imports


def test_setup__does_not_import_smoke_modules(apps: Apps) -> None:
    """Starting the site, its checks and its URLs imports no smoke module."""
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


def test_discovery__runs_in_a_thread(apps: Apps) -> None:
    """Imports run in a separate thread, so that the caller can time out."""
    apps.add(
        files={
            "smoke.py": IMPORTS
            + "import threading\nNAME = threading.current_thread().name\n"
            + "class Test(SmokeTest):\n    def test_it(self): pass"
        }
    )
    discover(apps)
    assert sys.modules["app0.smoke"].NAME == "smoketest-discovery"


def test_selection__complete_id(run_smoke: RunSmoke) -> None:
    """A complete id selects only that test."""
    report = run_smoke(
        "class Test(SmokeTest):\n    def test_it(self): pass\n    def test_it_2(self): pass",
        Selection(names=("app0.smoke.Test.test_it",)),
    )
    assert result_of(report, "test_it").outcome == "passed"
    assert len(report.results) == 1
