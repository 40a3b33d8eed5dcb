"""Fixtures of the command tests."""

from __future__ import annotations

from tests.cli.fixtures import ran, refused, run, site

__all__ = ["ran", "refused", "run", "site"]
