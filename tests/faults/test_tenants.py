"""django-tenants, whose connections have a schema that tests may change."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import override_settings

from smoketest import SmokeTest
from tests.faults.backends import site
from tests.faults.conftest import Backends
from tests.faults.fault import suite
from tests.faults.harness import assert_nothing_held, outcomes, run_suite
from tests.ledger.models import Account
from tests.servers.site import require_module

pytestmark = pytest.mark.e2e

APPS = ["smoketest", "tests.ledger", "django.contrib.contenttypes"]


@pytest.mark.xdist_group("postgresql")
@pytest.mark.parametrize("limit_set_calls", [False, True])
def test_schema__is_that_of_the_thread_in_each_test(
    backends: Backends, limit_set_calls: bool
) -> None:
    """Reset the schema that a test has selected, also if the backend remembers it."""
    require_module("django_tenants", "django-tenants")

    class SelectsSchema(SmokeTest):
        def test_1(self) -> None:
            self.assertEqual(Account.objects.count(), 2)

        def test_2(self) -> None:
            connection.set_schema("acme")  # type: ignore[attr-defined]
            self.assertEqual(Account.objects.count(), 0)
            Account.objects.create(name="of a tenant")

        def test_3(self) -> None:
            self.assertEqual(connection.schema_name, "public")  # type: ignore[attr-defined]
            self.assertEqual(Account.objects.count(), 2)

        def test_4(self) -> None:
            connection.set_schema("acme")  # type: ignore[attr-defined]

        def test_5(self) -> None:
            self.assertEqual(Account.objects.count(), 2)

    backend = backends("postgresql")
    databases = backend.databases()
    databases["default"]["ENGINE"] = "django_tenants.postgresql_backend"
    settings = override_settings(
        INSTALLED_APPS=APPS, TENANT_MODEL="none.None", TENANT_LIMIT_SET_CALLS=limit_set_calls
    )
    try:
        with settings, site(databases):
            with connection.cursor() as cursor:
                cursor.execute("CREATE SCHEMA IF NOT EXISTS acme")
                cursor.execute(
                    "CREATE TABLE acme.ledger_account (LIKE ledger_account INCLUDING ALL)"
                )
            connection.close()
            report = run_suite(suite(SelectsSchema, "tenants"))
            assert outcomes(report) == 5 * ("passed",), [r.message for r in report.results]
            connection.close()
        assert_nothing_held(backend)
        assert backend.execute("SELECT count(*) FROM acme.ledger_account") == [(0,)]
    finally:
        backend.execute("DROP SCHEMA acme CASCADE")
        backend.restore()
