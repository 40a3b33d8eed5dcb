"""Django's caches of rows in the process after a smoke test has been rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from smoketest import SmokeTest
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import site
from tests.faults.conftest import VENDORS, Backends
from tests.faults.fault import hang, suite
from tests.faults.harness import outcomes, run_suite
from tests.hanging import released, reset
from tests.ledger.models import Account
from tests.servers.processes import wait_for

APPS = ["smoketest", "tests.ledger", "django.contrib.contenttypes", "django.contrib.sites"]


@pytest.fixture(params=VENDORS)
def _site_with_row_caches(request: pytest.FixtureRequest, backends: Backends) -> Iterator[None]:
    """Run with the tables of content types and sites, and with empty caches."""
    backend = backends(request.param)
    reset()
    with override_settings(INSTALLED_APPS=APPS, SITE_ID=1), site(backend.databases()):
        from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
        from django.contrib.sites.models import Site  # noqa: PLC0415

        with connection.schema_editor() as editor:
            for model in (ContentType, Site):
                editor.create_model(model)
        Site.objects.create(id=1, domain="example.com", name="of the site")
        Site.objects.clear_cache()
        ContentType.objects.clear_cache()
        try:
            yield
        finally:
            released.set()
            Site.objects.clear_cache()
            ContentType.objects.clear_cache()
            backend.restore()


def use_changed_rows() -> None:
    """Change the site, create a content type, and let Django cache both."""
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
    from django.contrib.sites.models import Site  # noqa: PLC0415

    Site.objects.clear_cache()
    Site.objects.filter(id=1).update(domain="rolled-back.example")
    assert Site.objects.get_current().domain == "rolled-back.example"
    assert ContentType.objects.get_for_model(Account).pk


def assert_site_is_as_before() -> None:
    """Assert that production uses the rows of the database."""
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
    from django.contrib.sites.models import Site  # noqa: PLC0415

    assert Site.objects.get_current().domain == "example.com"
    cached = ContentType.objects.get_for_model(Account)
    assert ContentType.objects.filter(pk=cached.pk).exists()


@pytest.mark.usefixtures("_site_with_row_caches")
def test_row_caches__do_not_keep_rows_of_a_test() -> None:
    """Forget rows that a test or its fixtures have read, but not those that were there before."""
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415

    class UsesRows(SmokeTest):
        def test_1(self) -> None:
            use_changed_rows()

        def test_2(self) -> None:
            assert_site_is_as_before()

    class UsesRowsInFixtures(SmokeTest):
        @classmethod
        def setUpClass(cls) -> None:
            use_changed_rows()

        def test_3(self) -> None:
            pass

    for case, expected in [(UsesRows, ("passed", "passed")), (UsesRowsInFixtures, ("passed",))]:
        report = run_suite(suite(case, "row_caches"))
        assert outcomes(report) == expected, [r.message for r in report.results]
        assert_site_is_as_before()

    class UsesKnownRows(SmokeTest):
        def test_4(self) -> None:
            ContentType.objects.get_for_model(Account)

    before = ContentType.objects.get_for_model(Account)
    run_suite(suite(UsesKnownRows, "row_caches"))
    assert ContentType.objects.get_for_model(Account) is before


@pytest.mark.usefixtures("_site_with_row_caches")
def test_row_caches__do_not_keep_changes_of_cached_objects() -> None:
    """Forget objects of production's that a test has changed, with and without saving them."""
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
    from django.contrib.sites.models import Site  # noqa: PLC0415

    class ChangesObjects(SmokeTest):
        def test_it(self) -> None:
            content_type = ContentType.objects.get_for_model(Account)
            content_type.model = "changed"
            content_type.save()
            Site.objects.get_current().domain = "changed.example"

    assert_site_is_as_before()
    report = run_suite(suite(ChangesObjects, "row_caches"))
    assert outcomes(report) == ("passed",), report.results[0].message
    assert_site_is_as_before()
    assert ContentType.objects.get_for_model(Account).model == "account"


@pytest.mark.usefixtures("_site_with_row_caches")
def test_row_caches__do_not_keep_rows_of_a_hung_test() -> None:
    """Forget the rows when the test times out, not when its thread ends."""

    class UsesRowsAndHangs(SmokeTest):
        def test_it(self) -> None:
            use_changed_rows()
            hang()

    abandoned = LocallyAbandoned()
    report = run_suite(suite(UsesRowsAndHangs, "row_caches", timeout=2), abandoned)
    assert outcomes(report) == ("timed_out",)
    assert_site_is_as_before()
    released.set()
    wait_for(abandoned.count, lambda count: not count, what="the threads to end")
    assert_site_is_as_before()


@pytest.mark.usefixtures("_site_with_row_caches")
def test_row_caches__of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the site's own, and one that cannot be cleared, do not fail a test."""

    class OwnCache:
        def __getitem__(self, key: int) -> object:
            raise KeyError(key)

        def clear(self) -> None:
            raise AssertionError("the whole cache would be flushed")

    def clear_cache() -> None:
        raise OSError("the cache is down")

    class UsesRows(SmokeTest):
        def test_it(self) -> None:
            ContentType.objects.create(app_label="ledger", model="changed")
            ContentType.objects.get(model="changed")
            ContentType.objects.get_by_natural_key("ledger", "changed")

    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
    from django.contrib.sites import models  # noqa: PLC0415

    with monkeypatch.context() as patch:
        patch.setattr(models, "SITE_CACHE", OwnCache())
        patch.setattr(ContentType.objects, "clear_cache", clear_cache)
        report = run_suite(suite(UsesRows, "row_caches"))
    ContentType.objects.clear_cache()
    assert outcomes(report) == ("passed",), report.results[0].message
