"""Which values of the site's settings and environment are secrets.

They are those that Django hides on its own error pages:
https://docs.djangoproject.com/en/stable/howto/error-reporting/#custom-error-reports
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter

#: Django's own settings whose names sound like a secret, and that hold none.
_HARMLESS = frozenset({
    "AUTHENTICATION_BACKENDS", "AUTH_PASSWORD_VALIDATORS", "AUTH_USER_MODEL",
    "CACHE_MIDDLEWARE_KEY_PREFIX", "PASSWORD_HASHERS",
})  # fmt: skip
#: Variables of the environment that are shorter are switches, such as AUTH=basic.
_SHORTEST_VARIABLE = 8
_CREDENTIALS = re.compile(r"://[^\s/:@]*:([^\s/]+)@")


def secrets_of_site() -> set[str]:
    """The values; whoever shows text to anybody hides them in it."""
    reporter: Any = get_default_exception_reporter_filter()
    hidden: re.Pattern[str] = getattr(
        reporter, "hidden_settings", SafeExceptionReporterFilter.hidden_settings
    )
    found: set[str] = set()
    lazy: Any = settings
    values = lazy._wrapped  # past the warnings about names that are deprecated
    for name in dir(values):
        if name.isupper() and values.is_overridden(name):
            is_secret = hidden.search(name) is not None and name not in _HARMLESS
            found.update(_strings(getattr(values, name), hidden, is_secret, frozenset()))
    for name, value in os.environ.items():
        is_secret = hidden.search(name) is not None and len(value) >= _SHORTEST_VARIABLE
        found.update(_strings(value, hidden, is_secret, frozenset()))
    return found - {""}


def _strings(
    value: Any, hidden: re.Pattern[str], is_secret: bool, seen: frozenset[int]
) -> Iterator[str]:
    """The secrets in a value; passwords in addresses are some wherever they stand."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        yield from map(unquote, _CREDENTIALS.findall(value))
        if is_secret:
            yield value
    elif id(value) in seen:
        return
    elif isinstance(value, Mapping):
        for key, member in value.items():
            is_hidden = is_secret or hidden.search(str(key)) is not None
            yield from _strings(member, hidden, is_hidden, seen | {id(value)})
    elif isinstance(value, (list, tuple, set, frozenset)):
        for member in value:
            yield from _strings(member, hidden, is_secret, seen | {id(value)})
