"""Smoke tests that run inside a production Django site, each in a rolled-back transaction."""

from smoketest.case import SmokeTest, options, tag

__all__ = ["SmokeTest", "options", "tag"]
__version__ = "2.0.0"
