"""Refusal of helpers that would change the process, which serves visitors at the same time.

Settings and clocks belong to the process, not to a thread. Django, freezegun, time-machine and
`unittest.mock` replace them for the duration of a unit test; in a smoke test, this would change the
answers to visitors and the timeouts of other tests.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from typing import Any, NamedTuple
from unittest import mock

# Slow to import; `smoketest.runner.executor` imports this module before the first test.
from django.test import client as django_client
from django.test import utils as django_utils
from django.utils import timezone

from smoketest.isolation import is_isolated, refuse

_SETTINGS = (
    "A smoke test may not change settings, because its process also serves visitors. Pass the value"
    " to the code under test, or write a unit test."
)
_CLOCK = (
    "A smoke test may not change the clock, because its process also serves visitors. Pass the time"
    " to the code under test, or write a unit test."
)
_CLIENT = (
    "Use self.client: django.test.Client disconnects signal receivers of the process, which also"
    " serves visitors."
)


def _always(_helper: Any) -> bool:
    return True


class _Helper(NamedTuple):
    """A method that changes the process."""

    module: str
    owner: str
    method: str
    reason: str
    is_refused: Callable[[Any], bool] = _always


def _is_settings(patch: Any) -> bool:
    # Only compared: settings are read at the edge, not here.
    return patch.getter() is vars(django_utils)["settings"]


def _is_clock(patch: Any) -> bool:
    target = patch.getter()  # the object of which an attribute is replaced
    # Not `==`, which the target may define.
    return target is time or target is datetime or (target is timezone and patch.attribute == "now")


_HELPERS = (
    _Helper(django_utils.__name__, "override_settings", "enable", _SETTINGS),
    _Helper(django_client.__name__, "Client", "request", _CLIENT),
    _Helper(django_client.__name__, "AsyncClient", "request", _CLIENT),
    _Helper(mock.__name__, "_patch", "__enter__", _SETTINGS, _is_settings),
    _Helper(mock.__name__, "_patch", "__enter__", _CLOCK, _is_clock),
    _Helper("freezegun.api", "_freeze_time", "start", _CLOCK),
    _Helper("time_machine", "travel", "start", _CLOCK),
)


@cache
def refuse_helpers() -> None:
    """Make the helpers raise an error in smoke tests; elsewhere, they work as before.

    Libraries are imported if they are installed: a test may import them while it runs.
    """
    for helper in _HELPERS:
        with suppress(Exception):  # not installed, or a version that differs
            _refuse(getattr(import_module(helper.module), helper.owner), helper)


def _refuse(owner: Any, helper: _Helper) -> None:
    original = getattr(owner, helper.method)

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_isolated() and helper.is_refused(self):
            raise refuse(helper.reason)
        return original(self, *args, **kwargs)

    setattr(owner, helper.method, method)
