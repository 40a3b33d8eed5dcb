"""Names tests without running them."""

from __future__ import annotations

import json
from dataclasses import asdict

from smoketest.runner.discovery import Suite


def as_text(suite: Suite) -> str:
    """An id a line, as the command takes it."""
    return "".join(f"{declaration.id}\n" for declaration in suite.declarations)


def as_json(suite: Suite) -> str:
    """An object for each test, with what its author declared."""
    return json.dumps([asdict(declaration) for declaration in suite.declarations], indent=2) + "\n"
