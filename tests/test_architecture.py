"""The modules stand in an order, and data flows forward through them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import smoketest

PACKAGE = Path(smoketest.__file__).parent

#: A module may import those that stand before it, and no others of the package.
ORDER = [
    "smoketest.selection",
    "smoketest.results",
    "smoketest.moments",
    "smoketest.durations",
    "smoketest.failures",
    "smoketest.client",
    "smoketest.case",
    "smoketest",
    "smoketest.discovery",
    "smoketest.source",
    "smoketest.isolation.errors",
    "smoketest.isolation.statements",
    "smoketest.isolation.vendor",
    "smoketest.isolation.mysql",
    "smoketest.isolation.postgresql",
    "smoketest.isolation.sqlite",
    "smoketest.isolation.connection",
    "smoketest.isolation.thread",
    "smoketest.isolation",
    "smoketest.events",
    "smoketest.execution",
    "smoketest.threads",
    "smoketest.run_options",
    "smoketest.finding",
    "smoketest.runner",
    "smoketest.state",
    "smoketest.locks",
    "smoketest.abandoned",
    "smoketest.store.errors",
    "smoketest.store.known",
    "smoketest.store.schema",
    "smoketest.store.facts",
    "smoketest.store.reading",
    "smoketest.store.recording",
    "smoketest.store.base",
    "smoketest.store.memory",
    "smoketest.store.shared",
    "smoketest.store",
    "smoketest.redaction",
    "smoketest.signals",
    "smoketest.suggestions",
    "smoketest.coordinator",
    "smoketest.background",
    "smoketest.watching",
    "smoketest.formats",
    "smoketest.formats.counts",
    "smoketest.formats.text",
    "smoketest.formats.json",
    "smoketest.formats.html",
    "smoketest.formats.ndjson",
    "smoketest.formats.junit",
    "smoketest.gate",
    "smoketest.remote",
    "smoketest.metrics",
    "smoketest.exposition",
    "smoketest.exporters",
    "smoketest.exporters.errors",
    "smoketest.exporters.textfile",
    "smoketest.exporters.pushgateway",
    "smoketest.exporters.server",
    "smoketest.django_prometheus",
    "smoketest.assets",
    # The edges, which alone know settings and HTTP
    "smoketest.setting",
    "smoketest.conf",
    "smoketest.sensitive",
    "smoketest.assembly",
    "smoketest.checks",
    "smoketest.apps",
    "smoketest.access",
    "smoketest.query",
    "smoketest.pages",
    "smoketest.views",
    "smoketest.page_views",
    "smoketest.urls",
    "smoketest.middleware",
    "smoketest.command",
    "smoketest.command.exits",
    "smoketest.command.arguments",
    "smoketest.command.asking",
    "smoketest.command.display",
    "smoketest.command.live",
    "smoketest.command.listing",
    "smoketest.command.output",
    "smoketest.command.showing",
    "smoketest.management",
    "smoketest.management.commands",
    "smoketest.management.commands.smoketest",
    "smoketest.management.commands.smoketest_assets",
    # Apps of their own, which the package does not know
    "smoketest.contrib",
    "smoketest.contrib.config",
    "smoketest.contrib.variants",
    "smoketest.contrib.http",
    "smoketest.contrib.http.conf",
    "smoketest.contrib.http.entries",
    "smoketest.contrib.http.checks",
    "smoketest.contrib.http.apps",
    "smoketest.contrib.http.fetching",
    "smoketest.contrib.http.expectations",
    "smoketest.contrib.http.cases",
    "smoketest.contrib.http.smoke",
    "smoketest.contrib.health_check",
    "smoketest.contrib.health_check.conf",
    "smoketest.contrib.health_check.found",
    "smoketest.contrib.health_check.checks",
    "smoketest.contrib.health_check.apps",
    "smoketest.contrib.health_check.running",
    "smoketest.contrib.health_check.smoke",
    "smoketest.contrib.redis",
    "smoketest.contrib.redis.conf",
    "smoketest.contrib.redis.configured",
    "smoketest.contrib.redis.checks",
    "smoketest.contrib.redis.apps",
    "smoketest.contrib.redis.client",
    "smoketest.contrib.redis.testing",
    "smoketest.contrib.redis.smoke",
    "smoketest.contrib.celery",
    "smoketest.contrib.celery.conf",
    "smoketest.contrib.celery.checks",
    "smoketest.contrib.celery.apps",
    "smoketest.contrib.celery.names",
    "smoketest.contrib.celery.broker",
    "smoketest.contrib.celery.remote",
    "smoketest.contrib.celery.tasks",
    "smoketest.contrib.celery.records",
    "smoketest.contrib.celery.survey",
    "smoketest.contrib.celery.rounds",
    "smoketest.contrib.celery.site",
    "smoketest.contrib.celery.testing",
    "smoketest.contrib.celery.smoke",
    "smoketest.contrib.essentials",
    "smoketest.contrib.essentials.conf",
    "smoketest.contrib.essentials.inventory",
    "smoketest.contrib.essentials.checks",
    "smoketest.contrib.essentials.apps",
    "smoketest.contrib.essentials.explain",
    "smoketest.contrib.essentials.caches",
    "smoketest.contrib.essentials.databases",
    "smoketest.contrib.essentials.disks",
    "smoketest.contrib.essentials.dns",
    "smoketest.contrib.essentials.error_pages",
    "smoketest.contrib.essentials.mail",
    "smoketest.contrib.essentials.memory",
    "smoketest.contrib.essentials.static_files",
    "smoketest.contrib.essentials.storages",
    "smoketest.contrib.essentials.smoke",
    "smoketest.contrib.essentials.smoke.caches",
    "smoketest.contrib.essentials.smoke.databases",
    "smoketest.contrib.essentials.smoke.host",
    "smoketest.contrib.essentials.smoke.mail",
    "smoketest.contrib.essentials.smoke.pages",
    "smoketest.contrib.essentials.smoke.storages",
    "smoketest.contrib.essentials.smoke.system_checks",
]
#: The browser of a test is HTTP itself, and asks the site for its address.
EDGES = ["smoketest.client", *ORDER[ORDER.index("smoketest.setting") :]]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text())


def imported_names(tree: ast.AST) -> Iterator[str]:
    """``a.b`` and, where ``c`` may be a module, ``a.b.c`` for ``from a.b import c``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in members if name in ORDER)
            if not all(name in ORDER for name in members):
                yield node.module


def test_every_module_has_a_place() -> None:
    """A new module is put into the order on purpose."""
    assert sorted(name for name, _ in modules()) == sorted(ORDER)


def test_imports_point_backwards() -> None:
    """A module imports only what stands before it."""
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imported_names(tree)
        if imported.split(".")[0] == "smoketest" and imported not in ORDER[: ORDER.index(name)]
    ]
    assert wrong == []


def test_settings_and_http_are_known_at_the_edges_alone() -> None:
    """The core takes plain values."""
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imported_names(tree)
        if name not in EDGES and imported.startswith(("django.conf", "django.http", "django.urls"))
    ]
    assert wrong == []


def test_results_and_selection_need_nothing_but_the_standard_library() -> None:
    """Whoever reads a report needs no Django for it."""
    for name, tree in modules():
        if name in {"smoketest.selection", "smoketest.results"}:
            assert not any("django" in imported for imported in imported_names(tree))


def test_no_import_hides_in_a_function() -> None:
    """There are two exceptions.

    Django's own convention, to register checks when the apps are ready; and a test's client, whose
    module loads Django's test framework, for the sites that use it.
    """
    hidden = [
        name
        for name, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(function))
    ]
    assert hidden == ["smoketest.apps", "smoketest.case"]
