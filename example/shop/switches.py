"""Switches that break parts of the shop, to demonstrate failing smoke tests.

Set them in the environment variable ``EXAMPLE_BREAK`` or, while the site is running, in the file
``break`` in the data directory: ``echo orders > example/.data/break``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

#: Descriptions by name.
SWITCHES = {
    "orders": "orders are saved without the customer's email address, which the database rejects",
    "stock": "an order reduces the stock by twice its quantity",
    "cache": "the cache directory does not exist",
    "media": "the media directory does not exist",
    "archive": "the archive database cannot be opened",
    "slow": "the search takes EXAMPLE_SLOW_SECONDS",
    "hang": "requests to the carrier hang; restart the site to fix it",
    "warning": "the reorder level is too high: a warning test fails, and the status is still PASS",
    "import": "a smoke module imports a missing library; restart the site to break it",
}

#: A path that cannot be created, not even by root.
NOWHERE = "/dev/null/nowhere"


_switches_ignored = ContextVar("_switches_ignored", default=False)


def parse(text: str, origin: str) -> frozenset[str]:
    """Return the names in a text, separated by commas or whitespace."""
    names = frozenset(re.findall(r"[^\s,]+", text))
    if unknown := sorted(names - SWITCHES.keys()):
        names = ", ".join(map(repr, unknown))
        msg = f"{origin} contains {names}; the valid names are {', '.join(SWITCHES)}."
        raise ImproperlyConfigured(msg)
    return names


def break_file() -> Path:
    """Return the path of the file with the names of switches."""
    return Path(settings.DATA_DIR, "break")


def broken() -> frozenset[str]:
    """Return the names of the switches that are set. Reads the file on each call."""
    if _switches_ignored.get():
        return frozenset()
    file = break_file()
    try:
        text = file.read_text()
    except FileNotFoundError:
        text = ""
    return settings.EXAMPLE_BREAK | parse(text, str(file))


def is_broken(name: str) -> bool:
    """Return whether a switch is set."""
    if name not in SWITCHES:
        raise KeyError(name)
    return name in broken()


@contextmanager
def switches_ignored() -> Iterator[None]:
    """Ignore the switches, for setup code that cannot run on broken parts."""
    token = _switches_ignored.set(True)
    try:
        yield
    finally:
        _switches_ignored.reset(token)
