"""Tests of the migration check with django-tenants: each schema has its own migrations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contrib.essentials_site import Site, only
from tests.servers.postgresql import PostgreSQL
from tests.servers.site import require_module

# One worker, so that the server starts once.
pytestmark = pytest.mark.xdist_group(__name__)

MIGRATIONS = "databases.DefaultMigrationsTest"

_SETTINGS = """
DATABASES = {{"default": {database!r}}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = ["django_tenants", "customers", "django.contrib.contenttypes"]
TENANT_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
INSTALLED_APPS = [
    *SHARED_APPS, "django.contrib.auth", "django.contrib.sessions", "smoketest",
    "smoketest.contrib.essentials",
]
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware"]
ROOT_URLCONF = "customers.urls"
TENANT_MODEL, TENANT_DOMAIN_MODEL = "customers.Client", "customers.Domain"
"""
_MODELS = """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

class Client(TenantMixin):
    auto_create_schema = False

class Domain(DomainMixin):
    pass
"""
_CREATE = """
import django; django.setup()
from customers.models import Client
for name in ("acme", "globex"):
    Client.objects.create(schema_name=name).create_schema(verbosity=0)
Client.objects.create(schema_name="public")
Client.objects.create(schema_name="not_created_yet")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    require_module("psycopg", "psycopg[binary]")
    require_module("django_tenants", "django-tenants")
    with PostgreSQL() as postgresql:
        yield postgresql


@pytest.fixture(scope="module")
def site(server: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with two tenants, and a third without a schema."""
    folder: Path = tmp_path_factory.mktemp("tenants") / "site"
    database = {**server.django(), "ENGINE": "django_tenants.postgresql_backend"}
    site = Site(folder, _SETTINGS.format(database=database))
    (folder / "customers").mkdir()
    (folder / "customers" / "models.py").write_text(_MODELS)
    (folder / "customers" / "urls.py").write_text("urlpatterns = []")
    site.manage("makemigrations", "customers", "-v0")
    site.manage("migrate_schemas", "--shared", "-v0")
    site.python("-c", _CREATE)
    return site


def test_healthy(site: Site) -> None:
    """A tenant whose schema does not exist yet is ignored, and no other test has a false alarm."""
    run = site.run()
    problems = {name for name, outcome in run.outcomes.items() if outcome == "failed"}
    # The site of the test is not configured for a deployment; a warning says so.
    assert problems == {"system_checks.SystemChecksTest.test_are_ready_for_production"}
    assert run.status == "PASS"
    assert run.outcomes[f"{MIGRATIONS}.test_are_all_applied"] == "passed"
    # The host of the request is not that of a tenant.
    message = run.messages["pages.ErrorPagesTest.test_page_not_found"]
    assert message.startswith("Middleware of the site answers 404 ")


def test_a_tenant_lacks_a_migration(site: Site, server: PostgreSQL) -> None:
    """The message names the schema and the command."""
    server.sql("DELETE FROM globex.django_migrations WHERE app = 'sessions'")
    try:
        outcome, message = only(site.run(MIGRATIONS))
    finally:
        server.sql(
            "INSERT INTO globex.django_migrations (app, name, applied)"
            " VALUES ('sessions', '0001_initial', now())"
        )
    assert outcome == "failed"
    assert message == (
        "The schema 'globex' of 'default' has unapplied migrations (1): sessions.0001_initial."
        " Run: manage.py migrate_schemas --schema=globex"
    )


def test_the_public_schema_lacks_a_migration(site: Site, server: PostgreSQL) -> None:
    server.sql("UPDATE public.django_migrations SET app = 'gone' WHERE app = 'customers'")
    try:
        outcome, message = only(site.run(MIGRATIONS))
    finally:
        server.sql("UPDATE public.django_migrations SET app = 'customers' WHERE app = 'gone'")
    assert outcome == "failed"
    assert message.startswith("The schema 'public' of 'default' has unapplied migrations (1): ")


def test_another_package(site: Site) -> None:
    """The schemas of other packages are not known, so the test is skipped."""
    backend = site.folder / "schemas" / "base.py"
    backend.parent.mkdir()
    backend.write_text(
        "from django.db.backends.postgresql import base\n"
        "class DatabaseWrapper(base.DatabaseWrapper):\n"
        "    def set_schema(self, name):\n"
        "        ...\n"
    )
    (backend.parent / "__init__.py").touch()
    settings = site.settings
    try:
        site.configure(
            settings.replace("django_tenants.postgresql_backend", "schemas")
            + "DATABASE_ROUTERS, SHARED_APPS, MIDDLEWARE = [], [], []\n"
            "INSTALLED_APPS = ['smoketest', 'smoketest.contrib.essentials']\n"
        )
        outcome, message = only(site.run(MIGRATIONS))
    finally:
        site.configure(settings)
    assert outcome == "skipped"
    assert "only those of django-tenants can be checked" in message
