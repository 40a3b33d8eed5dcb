"""What users import, and the types that they see."""

from __future__ import annotations

import subprocess
import sys
import unittest
from importlib.metadata import version
from importlib.resources import files

import smoketest


def test_names() -> None:
    """The public names, and no others."""
    assert sorted(smoketest.__all__) == ["SmokeTest", "options", "tag"]
    assert issubclass(smoketest.SmokeTest, unittest.TestCase)


def test_version() -> None:
    """The version of the distribution is that of the package."""
    assert smoketest.__version__ == version("django-smoketest")


def test_typed() -> None:
    """Type checkers may rely on the annotations (PEP 561)."""
    assert files("smoketest").joinpath("py.typed").is_file()


def test_import_needs_no_settings() -> None:
    """A smoke module can be imported, and its tests run by unittest, without a configured site."""
    code = "import smoketest, django.conf; assert not django.conf.settings.configured"
    subprocess.run([sys.executable, "-c", code], check=True)
