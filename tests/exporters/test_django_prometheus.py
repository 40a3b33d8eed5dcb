"""Export through the page of django-prometheus, and isolation with its database backends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers.client import Response, get
from tests.servers.exposition import Exposition
from tests.servers.processes import Server
from tests.servers.site import ROOT, clean_environment

#: Set by tox.ini where django-prometheus can be installed.
REQUIRED = "SMOKETEST_TEST_REQUIRE_DJANGO_PROMETHEUS"
TESTS = 3


def require_django_prometheus() -> None:
    """Skip the test if django-prometheus is missing, or fail it if it is required."""
    if find_spec("django_prometheus") is not None:
        return
    reason = "django-prometheus is not installed; its latest release may not allow this Django"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED}=1)", pytrace=False)
    pytest.skip(reason)


SETTINGS = """
SECRET_KEY = "not-secret"
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = [{apps}]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
DATABASES = {{
    alias: {{
        "ENGINE": "django_prometheus.db.backends.sqlite3",
        "NAME": f"{folder}/{{alias}}.sqlite3",
    }}
    for alias in ("default", "other")
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SMOKETEST_STATE_DIR = "{folder}/state"
SMOKETEST_RUN_ON_SCRAPE = False
{settings}
"""
URLS = """
from django.http import HttpResponse
from django.urls import include, path
from tests.ledger.models import Account

def count(request):
    counts = (Account.objects.using(alias).count() for alias in ("default", "other"))
    return HttpResponse(str(sum(counts)))

urlpatterns = [
    path("smoketest/", include("smoketest.urls")),
    path("", include("django_prometheus.urls")),
    path("count", count),
]
"""
SMOKE = """
from django.db import transaction
from smoketest import SmokeTest
from tests.ledger.models import Account, Entry

class WriteTest(SmokeTest):
    maintainer = "ledger"
    def test_default(self):
        account = Account.objects.create(name="smoke")
        Entry.objects.create(account=account, amount=5)
        with transaction.atomic(durable=True):
            Account.objects.bulk_create([Account(name="a"), Account(name="b")])
        self.assertEqual(Account.objects.count(), 3)
    def test_other(self):
        Account.objects.using("other").create(name="smoke")
        self.assertEqual(Account.objects.using("other").count(), 1)
    def test_failing(self):
        Account.objects.create(name="smoke")
        self.fail("after a write")
"""


class PrometheusSite(Server):
    """Site with django-prometheus, under gunicorn."""

    name = "django-prometheus"

    def __init__(
        self,
        *,
        workers: int = 1,
        settings: str = "SMOKETEST_DJANGO_PROMETHEUS = True",
        apps: tuple[str, ...] = ("django_prometheus", "smoketest", "tests.ledger", "shop"),
    ) -> None:
        super().__init__()
        self.workers, self.settings, self.apps = workers, settings, apps

    def prepare(self) -> None:
        """Write the project and create its databases."""
        for name, source in {
            "settings.py": SETTINGS.format(
                folder=self.folder,
                settings=self.settings,
                apps=", ".join(repr(app) for app in self.apps),
            ),
            "urls.py": URLS,
            "shop/__init__.py": "",
            "shop/smoke.py": SMOKE,
        }.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(source)
        (self.folder / "multiproc").mkdir()
        for alias in ("default", "other"):
            self.run(
                sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0",
                f"--database={alias}",
            )  # fmt: skip

    def command(self) -> list[str]:
        """Return a gunicorn command that uses Django's application factory."""
        return [
            sys.executable, "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()",
            f"--bind={self.address}", f"--workers={self.workers}", "--graceful-timeout=3",
            "--no-control-socket",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the environment. Several workers use prometheus_client in multiprocess mode."""
        several = {"PROMETHEUS_MULTIPROC_DIR": str(self.folder / "multiproc")}
        return clean_environment() | {
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))),
            "DJANGO_SETTINGS_MODULE": "settings",
            **(several if self.workers > 1 else {}),
        }

    def is_ready(self) -> bool:
        """Return whether a page responds."""
        return self.get("/count").status == 200

    def get(self, path: str) -> Response:
        """GET a path like a scraper that accepts only text."""
        return get(self.port, path, {"Accept": "text/plain"})

    def run_tests(self) -> None:
        """Request a run of the tests."""
        response = self.get("/smoketest/?max_age=0")
        assert response.status == 500, response.text
        assert f"tests run: {TESTS}\ntests passed: 2\ntests failed: 1\n" in response.text
        assert "shop.smoke.WriteTest.test_failing failed: after a write" in response.text

    def page(self, path: str) -> Exposition:
        """Scrape a page."""
        response = self.get(path)
        assert response.status == 200, response.text
        return Exposition(response.text)


@pytest.fixture(scope="module", params=[1, 3], ids=["single", "multiproc"])
def site(request: pytest.FixtureRequest) -> Iterator[PrometheusSite]:
    """Start a site that exports the metrics through the page of django-prometheus."""
    require_django_prometheus()
    with PrometheusSite(workers=request.param) as site:
        yield site


def smoketest_series(exposition: Exposition) -> dict[object, float]:
    """Return the series of this package, by name and labels."""
    return {
        series: value
        for series, value in exposition.samples.items()
        if series[0].startswith("smoketest_")
    }


def test_page__before_any_run(site: PrometheusSite) -> None:
    """Before any run, both pages have the same series, and the store is up."""
    page = site.page("/metrics")
    assert page.value("smoketest_results_store_up") == 1
    assert smoketest_series(page) == smoketest_series(site.page("/smoketest/metrics"))


def test_page__same_series(site: PrometheusSite) -> None:
    """After each run, all workers export the same series and values on both pages."""
    for runs in (1, 2):
        site.run_tests()
        expected = smoketest_series(site.page("/smoketest/metrics"))
        for _ in range(10):
            page = site.page("/metrics")
            assert smoketest_series(page) == expected
        success = page.by("test", "smoketest_test_success")
        assert success == {
            "shop.smoke.WriteTest.test_default": 1,
            "shop.smoke.WriteTest.test_failing": 0,
            "shop.smoke.WriteTest.test_other": 1,
        }
        assert page.value("smoketest_runs_total", result="failed") >= runs


def test_page__metrics_of_django_prometheus(site: PrometheusSite) -> None:
    """The metrics of django-prometheus are present and include the queries of smoke tests."""
    before = site.page("/metrics")
    site.run_tests()
    after = site.page("/metrics")
    for alias in ("default", "other"):
        labels = {"alias": alias, "vendor": "sqlite"}
        assert after.value("django_db_execute_total", **labels) > before.value(
            "django_db_execute_total", **labels
        )
    name = "django_http_requests_before_middlewares_total"
    assert after.value(name) > before.value(name)


def test_page__same_help_and_type(site: PrometheusSite) -> None:
    """Each metric family has the same HELP and TYPE on both pages, and appears once."""
    site.run_tests()

    def metadata_lines(text: str) -> list[str]:
        return sorted(
            line
            for line in text.splitlines()
            if line.startswith(("# HELP smoketest", "# TYPE smoketest"))
        )

    page = metadata_lines(site.get("/metrics").text)
    assert page == metadata_lines(site.get("/smoketest/metrics").text)
    assert len(page) == len(set(page)) > 20


def test_isolation__database_backend(site: PrometheusSite) -> None:
    """Rows that smoke tests write are rolled back on every database."""
    for _ in range(3):
        site.run_tests()
        assert site.get("/count").text == "0"


@pytest.mark.parametrize("workers", [1, 2], ids=["single", "multiproc"])
@pytest.mark.parametrize("settings", ["", "SMOKETEST_DJANGO_PROMETHEUS = False"])
def test_disabled(workers: int, settings: str) -> None:
    """Without the setting, only the package's own metrics page has its series."""
    require_django_prometheus()
    with PrometheusSite(workers=workers, settings=settings) as site:
        site.run_tests()
        page = site.page("/metrics")
        assert smoketest_series(page) == {}
        assert page.matching("django_http_requests_before_middlewares_total")
        assert smoketest_series(site.page("/smoketest/metrics"))


def test_order_of_apps() -> None:
    """The order of the two apps makes no difference."""
    require_django_prometheus()
    with PrometheusSite(apps=("shop", "smoketest", "tests.ledger", "django_prometheus")) as site:
        site.run_tests()
        assert (
            smoketest_series(site.page("/metrics"))
            == smoketest_series(site.page("/smoketest/metrics"))
            != {}
        )


def test_unreadable_store() -> None:
    """An unreadable store is reported by a series and does not break the page."""
    require_django_prometheus()
    with PrometheusSite() as site:
        site.run_tests()
        for file in (site.folder / "state").glob("results.sqlite3*"):
            file.unlink()
        (site.folder / "state" / "results.sqlite3").mkdir()
        page = site.page("/metrics")
        assert page.value("smoketest_results_store_up") == 0
        assert page.matching("django_http_requests_before_middlewares_total")
        assert smoketest_series(page) == smoketest_series(site.page("/smoketest/metrics"))


#: A site where django-prometheus cannot be imported.
WITHOUT_DJANGO_PROMETHEUS = """
import sys

sys.modules["django_prometheus"] = None

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["smoketest"],
    ROOT_URLCONF="tests.urls",
    ALLOWED_HOSTS=["testserver"],
    SMOKETEST_STATE_DIR=sys.argv[1],
    SMOKETEST_RUN_ON_SCRAPE=False,
    SMOKETEST_DJANGO_PROMETHEUS={enabled!r},
)
django.setup()

from django.core.management import ManagementUtility
from django.test import Client

answer = Client().get("/smoketest/metrics")
print(answer.status_code, "smoketest_results_store_up 1.0" in answer.text, flush=True)
ManagementUtility(["manage.py", "check"]).execute()
"""


@pytest.mark.parametrize("enabled", [True, False])
def test_not_installed(tmp_path: Path, enabled: bool) -> None:
    """If it is enabled but missing, a check explains how to install it; the site works anyway."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DJANGO_PROMETHEUS.format(enabled=enabled), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[:1] == ["200 True"], done.stderr
    if not enabled:
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "smoketest.E014" in done.stderr
    assert "SMOKETEST_DJANGO_PROMETHEUS is True, but django-prometheus is not" in done.stderr
    assert 'HINT: Install it: pip install "django-smoketest[django-prometheus]".' in done.stderr
