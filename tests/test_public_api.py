"""The public API and its type annotations."""

from __future__ import annotations

import subprocess
import sys
import unittest
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec

import pytest

import smoketest


def test_all() -> None:
    assert sorted(smoketest.__all__) == ["SmokeTest", "options", "tag"]
    assert issubclass(smoketest.SmokeTest, unittest.TestCase)


#: The names that release 2.0.0 documents, by module.
RELEASE_2_0 = {
    "smoketest": ("SmokeTest", "tag", "options", "__version__"),
    "smoketest.apps": ("SmokeTestConfig",),
    "smoketest.metrics": ("SmokeTestCollector",),
    "smoketest.middleware": ("SmokeTestMiddleware",),
    "smoketest.signals": ("run_finished",),
    "smoketest.urls": ("app_name", "urlpatterns"),
    "smoketest.views": ("IndexView", "MetricsView"),
    "smoketest.results": ("Report", "Result", "Declaration", "Outcome", "Severity", "RunResult"),
}


@pytest.mark.parametrize("module", RELEASE_2_0)
def test_imports__release_2_0(module: str) -> None:
    imported = import_module(module)
    assert [name for name in RELEASE_2_0[module] if not hasattr(imported, name)] == []


@pytest.mark.parametrize("app", ["essentials", "http", "redis", "celery", "health_check"])
def test_contrib_apps__release_2_0(app: str) -> None:
    assert find_spec(f"smoketest.contrib.{app}.apps")


def test_version() -> None:
    """The package and its distribution have the same version."""
    assert smoketest.__version__ == version("django-smoketest")


def test_typed() -> None:
    """The package includes a py.typed file (PEP 561)."""
    assert files("smoketest").joinpath("py.typed").is_file()


def test_import__without_settings() -> None:
    """The package can be imported without a configured site."""
    code = "import smoketest, django.conf; assert not django.conf.settings.configured"
    subprocess.run([sys.executable, "-c", code], check=True)
