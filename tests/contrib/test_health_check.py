"""Tests of smoketest.contrib.health_check, with releases 3 and 4 of django-health-check."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from django.urls import clear_url_caches

from smoketest import services
from smoketest.results import Report, Selection
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, Apps, options, result_of
from tests.hanging import assert_hanging, released, reset
from tests.ledger.models import Account

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

#: The required major release; set by tox.ini.
REQUIRED = "SMOKETEST_TEST_REQUIRE_HEALTH_CHECK"
APP = "smoketest.contrib.health_check"

#: Checks of a site, in the module `app0.health`.
CHECKS = """
import asyncio, dataclasses, datetime, threading
from health_check.exceptions import *
from tests.hanging import hang
from tests.ledger.models import Account
{base}

class Custom(Base):
    def {run}(self):
        raise ServiceUnavailable("the till is locked")

class Fine(Base):
    '''The till is open.

    It opens at nine.
    '''
    def {run}(self):
        pass

class Full(Base):
    def {run}(self):
        raise ServiceWarning("93 % disk usage")

answers = []

class Changing(Base):
    timeout = None
    def {run}(self):
        if answers:
            raise ServiceWarning(answers.pop())
        hang()

class Broken(Base):
    def {run}(self):
        raise ZeroDivisionError("who divides?")

class Writing(Base):
    def {run}(self):
        Account.objects.create(name="health check")

class Thread(Base):
    def {run}(self):
        raise ServiceUnavailable("on the main thread: "
            f"{{threading.current_thread() is threading.main_thread()}}")
"""
BASE_3 = """
from health_check.backends import HealthCheck
class Base(HealthCheck): pass
"""
BASE_4 = """
from health_check import HealthCheck
@dataclasses.dataclass
class Base(HealthCheck): pass

@dataclasses.dataclass
class Slow(Base):
    timeout: datetime.timedelta = dataclasses.field(
        default=datetime.timedelta(milliseconds=1), repr=False)
    async def run(self):
        await asyncio.sleep(120)

@dataclasses.dataclass
class Till(Base):
    number: int = 0
    token: str = ""
    place: str = dataclasses.field(default="", repr=False)
    async def run(self):
        if not await Account.objects.filter(name=str(self.number)).aexists():
            raise ServiceUnavailable(f"no account of till {self.number}")
"""
URLS = """
from django.urls import include, path
from health_check.views import HealthCheckView
inner = [path("ready/", HealthCheckView.as_view(checks={ready}), name="readiness")]
urlpatterns = [
    path("live/", HealthCheckView.as_view(checks={live}), name="liveness"),
    path("in/", include(inner)),
    path("smoke/", include("smoketest.urls")),
]
"""


def major() -> int:
    try:
        return int(version("django-health-check").partition(".")[0])
    except PackageNotFoundError:
        return 0


def require(*releases: int) -> None:
    """Skip the test unless one of these releases is installed; fail if one is required."""
    if major() in releases:
        return
    reason = f"django-health-check {' or '.join(map(str, releases))} is not installed"
    if os.environ.get(REQUIRED) in map(str, releases):
        pytest.fail(f"{reason} ({REQUIRED}={os.environ[REQUIRED]})", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def release_3() -> None:
    require(3)


@pytest.fixture
def release_4() -> None:
    require(4)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unload the smoke module and clear the registry before each test."""
    sys.modules.pop(f"{APP}.smoke", None)
    if major() == 3:
        monkeypatch.setattr("health_check.plugins.plugin_dir._registry", [])
    yield
    sys.modules.pop(f"{APP}.smoke", None)
    clear_url_caches()


@contextmanager
def site(apps: Apps, **settings: Any) -> Iterator[None]:
    """A site with the app and the checks above, written for the installed release."""
    base, method = (BASE_3, "check_status") if major() == 3 else (BASE_4, "run")
    urls = {"live": settings.pop("live", []), "ready": settings.pop("ready", [])}
    files = {"health.py": CHECKS.format(base=base, run=method)}
    if major() != 3 or any(urls.values()):
        files["urls.py"] = URLS.format(**urls)
        settings.setdefault("ROOT_URLCONF", "app0.urls")
    apps.add(files=files)
    with apps.installed("app0", APP), override_settings(**settings):
        clear_url_caches()
        yield


def run_all(**changes: object) -> Report:
    suite = find(EVERYTHING, options(**changes))
    assert suite.collection_errors == ()
    return run(suite, EVERYTHING, options(**changes), abandoned=LocallyAbandoned(), carried={})


def shown(report: Report) -> dict[str, str]:
    prefix = f"{APP}.smoke."
    return {result.id.removeprefix(prefix): str(result.outcome) for result in report.results}


# Release 4: checks of views


@pytest.mark.usefixtures("release_4")
def test_views__one_class_per_check(apps: Apps) -> None:
    """Views are found anywhere in the URLconf; a check of two views has one class."""
    live = ["app0.health.Fine"]
    ready = ["app0.health.Fine", ("app0.health.Till", {"number": 7})]
    with site(apps, live=live, ready=ready):
        report = run_all()
    assert shown(report) == {
        "FineHealthCheck.test_check": "passed",
        "FineHealthCheck.test_warning": "passed",
        "Till7HealthCheck.test_check": "failed",
        "Till7HealthCheck.test_warning": "passed",
    }
    till = result_of(report, "Till7HealthCheck.test_check")
    assert till.message == "Unavailable: no account of till 7"
    fine = result_of(report, "FineHealthCheck.test_check").declaration
    assert set(fine.tags) == {"health_check", "liveness", "readiness"}
    assert set(till.declaration.tags) == {"health_check", "readiness"}
    assert fine.description == "The check of django-health-check passes. Fine: The till is open."


@pytest.mark.usefixtures("release_4")
def test_views__custom_method(apps: Apps) -> None:
    """The method of the view is called."""
    with site(apps, ROOT_URLCONF="app0.special"):
        (apps.folder / "app0" / "special.py").write_text(
            "from django.urls import path\n"
            "from health_check.views import HealthCheckView\n"
            "from app0 import health\n"
            "class View(HealthCheckView):\n"
            "    def get_checks(self):\n"
            "        yield health.Fine()\n"
            "        yield health.Till(3)\n"
            "urlpatterns = [path('health/', View.as_view())]\n"
        )
        report = run_all()
    assert shown(report)["FineHealthCheck.test_check"] == "passed"
    assert result_of(report, "TillHealthCheck.test_check").message.endswith("account of till 3")


@pytest.mark.usefixtures("release_4")
def test_setting__replaces_views(apps: Apps) -> None:
    """The setting replaces the checks of the views, in the same format."""
    checks = ["app0.health.Fine", ("app0.health.Till", {"number": 1}), ["app0.health.Full", {}]]
    with site(apps, live=["app0.health.Broken"], SMOKETEST_HEALTH_CHECK_CHECKS=checks):
        assert {name.partition(".")[0] for name in shown(run_all())} == {
            "FineHealthCheck",
            "Till1HealthCheck",
            "FullHealthCheck",
        }


@pytest.mark.usefixtures("release_4")
def test_name__no_secrets(apps: Apps) -> None:
    """Options with names of secrets, URLs and fields without repr are not part of the name."""
    secrets = {"number": "amqp://user:hunter2@host", "token": "hunter2", "place": "hunter2"}
    checks = [("app0.health.Till", secrets)]
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=checks):
        suite = find(EVERYTHING, options())
    assert [smoke_class.id for smoke_class in suite.classes] == [f"{APP}.smoke.TillHealthCheck"]


@pytest.mark.usefixtures("release_4")
def test_timeout_of_check(apps: Apps) -> None:
    """A hanging asynchronous check times out one second after its own timeout."""
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=["app0.health.Slow"]):
        slow = result_of(run_all(), "SlowHealthCheck.test_check")
    assert slow.outcome == "timed_out"
    assert slow.declaration.timeout == pytest.approx(1.001)
    assert slow.duration < 30


@pytest.mark.usefixtures("release_4")
def test_builtin_checks(apps: Apps, tmp_path: Path) -> None:
    """The checks of Django's services pass, and run in the isolation of smoke tests."""
    checks = [
        ("health_check.Database", {"alias": "default"}),
        ("health_check.Database", {"alias": "nowhere"}),
        "health_check.Cache",
        "health_check.Storage",
    ]
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=checks, MEDIA_ROOT=tmp_path):
        report = run_all()
    assert shown(report) == {
        "DatabaseDefaultHealthCheck.test_check": "passed",
        "DatabaseDefaultHealthCheck.test_warning": "passed",
        "DatabaseNowhereHealthCheck.test_check": "failed",
        "DatabaseNowhereHealthCheck.test_warning": "passed",
        "CacheHealthCheck.test_check": "passed",
        "CacheHealthCheck.test_warning": "passed",
        "StorageHealthCheck.test_check": "passed",
        "StorageHealthCheck.test_warning": "passed",
    }
    message = result_of(report, "DatabaseNowhereHealthCheck.test_check").message
    assert message == "Unavailable: Database alias does not exist"


# Release 3: registered checks


@pytest.mark.usefixtures("release_3")
def test_registry__one_class_per_plugin(apps: Apps) -> None:
    """Registered checks use their options, and their subsets become tags."""
    subsets = {"startup": ["Fine"], "other": ["Nobody"]}
    with site(apps, HEALTH_CHECK={"SUBSETS": subsets}):
        register("Fine", "Custom")
        report = run_all()
    assert shown(report) == {
        "FineHealthCheck.test_check": "passed",
        "FineHealthCheck.test_warning": "passed",
        "CustomHealthCheck.test_check": "failed",
        "CustomHealthCheck.test_warning": "passed",
    }
    assert result_of(report, "CustomHealthCheck.test_check").message == (
        "unavailable: the till is locked"
    )
    assert set(result_of(report, "FineHealthCheck.test_check").declaration.tags) == {
        "health_check",
        "startup",
    }


@pytest.mark.usefixtures("release_3")
def test_not_critical__warning(apps: Apps) -> None:
    """`critical_service = False` results in severity "warning" for errors and warnings."""
    with site(apps):
        for check in register("Custom", "Full"):
            check.critical_service = False
        report = run_all()
    assert shown(report) == {
        "CustomHealthCheck.test_check": "failed",
        "FullHealthCheck.test_check": "failed",
    }
    assert {result.declaration.severity for result in report.results} == {"warning"}


@pytest.mark.usefixtures("release_3")
def test_views__release_3(apps: Apps) -> None:
    """The last releases of 3 also support views with checks."""
    with site(apps, live=["app0.health.Writing", "health_check.Database"]):
        report = run_all()
    assert shown(report)["WritingHealthCheck.test_check"] == "passed"
    assert shown(report)["DatabaseHealthCheck.test_check"] == "passed"
    assert not Account.objects.exists()


def register(*names: str) -> list[Any]:
    found = [getattr(import_module("app0.health"), name) for name in names]
    for check in found:
        import_module("health_check.plugins").plugin_dir.register(check)
    return found


# Both releases


@pytest.fixture
def any_release() -> None:
    require(3, 4)


@pytest.mark.usefixtures("any_release")
def test_warning__separate_test(apps: Apps) -> None:
    """A warning is reported, and the run passes."""
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=["app0.health.Full"]):
        report = run_all()
    assert shown(report) == {
        "FullHealthCheck.test_check": "passed",
        "FullHealthCheck.test_warning": "failed",
    }
    warning = result_of(report, "FullHealthCheck.test_warning")
    assert warning.message.lower() == "warning: 93 % disk usage"
    assert warning.declaration.severity == "warning"
    assert report.passed


@pytest.mark.usefixtures("any_release")
def test_warning__only_test_selected(apps: Apps) -> None:
    """If `test_check` is not selected, `test_warning` runs the check."""
    checks = [f"app0.health.{name}" for name in ("Full", "Fine", "Custom", "Broken")]
    names = tuple(
        f"{APP}.smoke.{name}HealthCheck.test_warning"
        for name in ("Full", "Fine", "Custom", "Broken")
    )
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=checks):
        suite = find(Selection(names=names), options())
        report = run(
            suite, Selection(names=names), options(), abandoned=LocallyAbandoned(), carried={}
        )
    assert shown(report) == {
        "FullHealthCheck.test_warning": "failed",
        "FineHealthCheck.test_warning": "passed",
        "CustomHealthCheck.test_warning": "passed",
        "BrokenHealthCheck.test_warning": "skipped",
    }


@pytest.fixture
def hanging() -> Iterator[None]:
    """Release hanging checks at the end of the test."""
    reset()
    yield
    released.set()


@pytest.mark.usefixtures("any_release", "hanging")
@pytest.mark.parametrize("hangs", [False, True])
def test_warning__after_another_run(apps: Apps, tmp_path: Path, hangs: bool) -> None:
    """`test_warning` does not use the result of `test_check` in an earlier run."""
    name = f"{APP}.smoke.ChangingHealthCheck"
    with site(
        apps,
        SMOKETEST_HEALTH_CHECK_CHECKS=["app0.health.Changing"],
        SMOKETEST_STATE_DIR=tmp_path,
    ):
        answers = import_module("app0.health").answers
        answers += [] if hangs else ["the first answer"]
        with override_settings(SMOKETEST_TIMEOUT=0.2 if hangs else 60):
            selection = Selection(names=(f"{name}.test_check",))
            first = services.coordinator().run(selection, wait=60).report
        assert_hanging()
        answers += ["the second answer"]
        with override_settings(SMOKETEST_TIMEOUT=60):
            selection = Selection(names=(f"{name}.test_warning",))
            second = services.coordinator().run(selection, wait=60).report
    assert shown(first) == {"ChangingHealthCheck.test_check": "timed_out" if hangs else "passed"}
    assert "the second answer" in result_of(second, "test_warning").message


@pytest.mark.usefixtures("any_release")
def test_warning__treated_as_error(apps: Apps) -> None:
    """Warnings fail the critical test, as by default in django-health-check."""
    checks = ["app0.health.Full", "app0.health.Fine"]
    with site(
        apps,
        SMOKETEST_HEALTH_CHECK_CHECKS=checks,
        SMOKETEST_HEALTH_CHECK_WARNINGS_AS_ERRORS=True,
    ):
        report = run_all()
    assert shown(report) == {
        "FullHealthCheck.test_check": "failed",
        "FineHealthCheck.test_check": "passed",
    }
    assert not report.passed


@pytest.mark.usefixtures("any_release")
def test_unexpected_exception__message(apps: Apps) -> None:
    """The message is not "unknown error", and `test_warning` is skipped."""
    checks = ["app0.health.Broken", "app0.health.Gone"]
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=checks):
        report = run_all()
    assert shown(report) == {
        "BrokenHealthCheck.test_check": "errored",
        "BrokenHealthCheck.test_warning": "skipped",
        "GoneHealthCheck.test_check": "errored",
        "GoneHealthCheck.test_warning": "skipped",
    }
    assert result_of(report, "BrokenHealthCheck.test_check").message == "who divides?"
    assert "Gone" in result_of(report, "GoneHealthCheck.test_check").message


@pytest.mark.usefixtures("any_release")
def test_writes__rolled_back(apps: Apps) -> None:
    """The check runs in the thread of the transaction that is rolled back."""
    checks = ["app0.health.Writing", "app0.health.Thread"]
    with site(apps, SMOKETEST_HEALTH_CHECK_CHECKS=checks):
        report = run_all(workers=0)
    assert shown(report)["WritingHealthCheck.test_check"] == "passed"
    assert result_of(report, "ThreadHealthCheck.test_check").message.endswith("thread: True")
    assert not Account.objects.exists()


def ids(**settings: Any) -> list[str | None]:
    with override_settings(INSTALLED_APPS=["smoketest", APP], **settings):
        return [
            m.id
            for m in run_checks(tags=["smoketest"])
            if m.id and m.id >= "smoketest.E1" and m.id < "smoketest.I"
        ]


@pytest.mark.usefixtures("any_release")
def test_system_checks() -> None:
    """Each invalid value has its own error."""
    name = "SMOKETEST_HEALTH_CHECK_CHECKS"
    assert ids() == []
    assert ids(**{name: ["health_check.Cache", ("health_check.Cache", {"alias": "a"})]}) == []
    for wrong in ("health_check.Cache", [5], [("health_check.Cache",)], [("a", "b")]):
        assert ids(**{name: wrong}) == ["smoketest.E181"]
    assert ids(SMOKETEST_HEALTH_CHECK_WARNINGS_AS_ERRORS=1) == ["smoketest.E182"]
    assert ids(**{name: ["health_check.Cache", "health_check.Cach"]}) == ["smoketest.E184"]


@pytest.mark.usefixtures("any_release")
def test_system_check__no_checks(apps: Apps) -> None:
    """A site without checks causes a warning; a single check is sufficient."""

    def warnings() -> list[str]:
        return [m.id for m in run_checks(tags=["smoketest"]) if m.id == "smoketest.W181"]

    with site(apps, ROOT_URLCONF="tests.urls"):
        assert warnings() == ["smoketest.W181"]
        if major() == 3:
            register("Fine")
            assert warnings() == []
        with override_settings(SMOKETEST_HEALTH_CHECK_CHECKS=["app0.health.Fine"]):
            assert warnings() == []
    with site(apps, live=["app0.health.Fine"]), override_settings(ROOT_URLCONF="app1.urls"):
        assert warnings() == []


def test_system_check__missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is an error."""
    monkeypatch.setattr("smoketest.contrib.health_check.checks.find_spec", lambda _: None)
    assert ids() == ["smoketest.E183"]
