"""Break parts of the shop on purpose, to watch its smoke tests fail.

Name what to break in the environment variable ``EXAMPLE_BREAK`` or, while the site runs, in the
file ``break`` in the data folder: ``echo orders > example/.data/break``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

#: What can be broken, and how.
SWITCHES = {
    "orders": "an order is saved without the customer's address, which the database refuses",
    "stock": "an order takes twice its copies from stock",
    "cache": "the cache folder cannot exist",
    "media": "the media folder cannot exist",
    "archive": "the archive database cannot be opened",
    "slow": "the search takes EXAMPLE_SLOW_SECONDS",
    "hang": "the carrier accepts the connection and never answers; restart to mend",
    "warning": "the reorder level has too many zeros: a warning, and still PASS",
    "import": "a smoke module needs a library that is not installed; restart to break",
}

#: A path that no one can create or write, not even root.
NOWHERE = "/dev/null/nowhere"


_all_mended = ContextVar("_all_mended", default=False)


def parse(text: str, origin: str) -> frozenset[str]:
    """Return the names in the text, separated by commas or white space."""
    names = frozenset(re.findall(r"[^\s,]+", text))
    if unknown := sorted(names - SWITCHES.keys()):
        given = ", ".join(map(repr, unknown))
        msg = f"{origin}: there is no {given} to break; use {', '.join(SWITCHES)}."
        raise ImproperlyConfigured(msg)
    return names


def break_file() -> Path:
    """Return the file in which people write what to break."""
    return Path(settings.DATA_DIR, "break")


def broken() -> frozenset[str]:
    """Return what is broken at the moment; the file is read anew each time."""
    if _all_mended.get():
        return frozenset()
    file = break_file()
    try:
        text = file.read_text()
    except FileNotFoundError:
        text = ""
    return settings.EXAMPLE_BREAK | parse(text, str(file))


def is_broken(name: str) -> bool:
    """Tell whether one part is broken at the moment."""
    if name not in SWITCHES:
        raise KeyError(name)
    return name in broken()


@contextmanager
def all_mended() -> Iterator[None]:
    """Keep everything whole for a while: what is broken could not even be set up."""
    token = _all_mended.set(True)
    try:
        yield
    finally:
        _all_mended.reset(token)
