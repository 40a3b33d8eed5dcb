"""Schemas of tenants in a database, each of which has its own migrations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from time import monotonic  # bound here: a test may patch the module
from typing import Any
from unittest import SkipTest

from django.apps import apps
from django.utils.module_loading import import_string

#: Maximum time for checking schemas, in seconds; a site may have thousands.
BUDGET = 5.0


def has_schemas(connection: Any) -> bool:
    """Return whether the backend selects a schema for each tenant, as django-tenants does."""
    return hasattr(connection, "set_tenant") or hasattr(connection, "set_schema")


def each_schema(connection: Any) -> Iterator[str]:
    """Select the public schema, then those of tenants in random order, and yield each name.

    Tenants whose schema was not created yet are left out. Skips the test for other packages than
    django-tenants.
    """
    if not apps.is_installed("django_tenants"):
        msg = (
            f"{type(connection).__module__} has a schema for each tenant, and only those of"
            " django-tenants can be checked: write a smoke test."
        )
        raise SkipTest(msg)
    deadline = monotonic() + BUDGET
    connection.set_schema_to_public()
    public = connection.schema_name
    yield public
    tenants = import_string("django_tenants.utils.get_tenant_model")()._base_manager
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace")
        existing = {name for (name,) in cursor.fetchall()}
    found = [
        tenant
        for tenant in tenants.using(connection.alias)
        if tenant.schema_name in existing and tenant.schema_name != public
    ]
    random.shuffle(found)
    for tenant in found:
        if monotonic() > deadline:
            return
        connection.set_tenant(tenant)
        yield tenant.schema_name
