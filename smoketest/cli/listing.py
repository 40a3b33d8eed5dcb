"""Output of ``manage.py smoketest --list``."""

from __future__ import annotations

import json
from dataclasses import asdict

from smoketest.runner.discovery import Suite


def as_text(suite: Suite) -> str:
    """Return the ids of the tests, one per line."""
    return "".join(f"{declaration.id}\n" for declaration in suite.declarations)


def as_json(suite: Suite) -> str:
    """Return a JSON array with an object for each test."""
    return json.dumps([asdict(declaration) for declaration in suite.declarations], indent=2) + "\n"
