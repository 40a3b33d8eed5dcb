"""The settings ``SMOKETEST_*`` of the package itself.

Only the edges read them: views, the command, the system checks and `smoketest.assembly`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from pathlib import Path

from django.conf import settings

from smoketest.setting import PREFIX, Setting, Settings, boolean, is_number, is_strings, seconds

#: Characters. `secrets.token_urlsafe()` makes some of 43.
SHORTEST_TOKEN = 16


class Conf(Settings):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: Names or labels of apps to leave out.
    skip_apps: Setting[Collection[str]] = Setting(
        "smoketest.E001",
        (),
        "a list, tuple or set of app names or labels",
        is_strings,
    )
    #: How long a test may take that declares nothing else.
    timeout = seconds("smoketest.E002", 10.0)
    #: From when on a test counts as slow that declares nothing else.
    slow_after = seconds("smoketest.E003", 1.0)
    #: Deadline of a whole run.
    run_timeout = seconds("smoketest.E004", 25.0)
    #: Longest wait for a row or table lock.
    lock_timeout = seconds("smoketest.E005", 1.0)
    #: Threads that run tests; 0 runs them in the calling thread, without time-outs.
    workers: Setting[int] = Setting(
        "smoketest.E006",
        4,
        "a whole number, 0 or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    )
    #: How often full runs are expected.
    interval: Setting[float | None] = Setting(
        "smoketest.E007",
        60.0,
        "a number of seconds, more than 0, or None if no runs are expected",
        lambda value: value is None or (is_number(value) and value > 0),
    )
    #: Whether a scrape starts a background run when one is due.
    run_on_scrape = boolean("smoketest.E012", True)
    #: How old an answer of the endpoint may be.
    max_age: Setting[float] = Setting(
        "smoketest.E008",
        5.0,
        "a number of seconds, 0 or more",
        lambda value: is_number(value) and value >= 0,
    )
    #: Where the results store lives.
    state_dir: Setting[str] = Setting(
        "smoketest.E009",
        "",
        "the absolute path of a folder, as a string or a Path, or empty",
        lambda value: not value or _is_absolute_path(value),
    )
    #: Who has one of these sees the results; without any the endpoint is open.
    tokens: Setting[Collection[str]] = Setting(
        "smoketest.E015",
        (),
        f"a list or tuple of strings of {SHORTEST_TOKEN} characters or more, without spaces",
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_token, value)),
        is_secret=True,
    )
    #: Whether those without a token are told PASS or FAIL, and nothing else.
    public_status = boolean("smoketest.E016", False)
    #: Address of the site, for links in alerts.
    public_url: Setting[str] = Setting(
        "smoketest.E010",
        "",
        "an address that begins with http:// or https://, or empty",
        lambda value: (
            isinstance(value, str) and (not value or value.startswith(("http://", "https://")))
        ),
    )
    #: Whether the metrics are on the page of django-prometheus as well.
    django_prometheus = boolean("smoketest.E013", False)
    #: Label of a run, such as the version that is deployed.
    release: Setting[str] = Setting(
        "smoketest.E011", "", "a string", lambda value: isinstance(value, str)
    )


def _is_token(value: object) -> bool:
    """Whether it can be sent in a header and not be guessed."""
    if not isinstance(value, str) or len(value) < SHORTEST_TOKEN:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _is_absolute_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and Path(value).is_absolute()


def unknown_settings(known: Collection[str]) -> dict[str, str | None]:
    """Settings of the site that have our prefix but no meaning, and what may have been meant."""
    unknown = sorted(
        name for name in dir(settings) if name.startswith(PREFIX) and name not in known
    )
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), None) for name in unknown}


conf = Conf()
