"""Runs a check of django-health-check on the thread of its smoke test, and tells what it found.

Its own ``get_result`` is not used: that runs on another thread, outside of the test's transaction,
and hides what was unexpected.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django.dispatch import receiver
from health_check import exceptions

from smoketest.case import SmokeTest, options
from smoketest.contrib.health_check.targets import Check
from smoketest.signals import run_finished

#: The base of all that a check raises on purpose; its name is not the same in all releases.
_Problem: type[Exception] = exceptions.ServiceWarning.__base__


class HealthCheck(SmokeTest):
    """One check; its subclasses have tests that are made of what the site has."""

    #: Whether the check was asked in this run.
    _was_asked: ClassVar[bool] = False
    #: The warnings that it gave; None if it did not get that far.
    _warnings: ClassVar[str | None] = None

    @classmethod
    def _begin(cls) -> None:
        """Note that the check is asked now."""
        cls._was_asked, cls._warnings = True, None


@receiver(run_finished)
def _forget(**_: object) -> None:
    """No later run tells what this one has found, also where a test of it still hangs."""
    for case in HealthCheck.__subclasses__():
        case._was_asked = False


def make_tests(check: Check, *, warnings_as_errors: bool) -> dict[str, Any]:
    """The tests and options of the class for one check."""
    is_critical = getattr(check.target, "critical_service", True) is not False
    splits_warnings = is_critical and not warnings_as_errors
    attributes: dict[str, Any] = {
        "tags": {"health_check", *check.groups},
        "severity": "critical" if is_critical else "warning",
        "timeout": check.timeout,
    }
    is_async = inspect.iscoroutinefunction(getattr(check.target, "run", None))
    find: Any = partial(_problems_async if is_async else _problems, check)
    test_check = (_async_test if is_async else _sync_test)(find, splits_warnings)
    test_check.__doc__ = f"The check of django-health-check passes. {check.description}"
    attributes["test_check"] = test_check
    if splits_warnings:
        attributes["test_warning"] = _warning_test(async_to_sync(find) if is_async else find)
    return attributes


def _sync_test(find: Callable[[], Any], splits_warnings: bool) -> Callable[[HealthCheck], None]:
    def test_check(self: HealthCheck) -> None:
        self._begin()
        _judge(self, find(), splits_warnings)

    return test_check


def _async_test(
    find: Callable[[], Any], splits_warnings: bool
) -> Callable[[HealthCheck], Awaitable[None]]:
    async def test_check(self: HealthCheck) -> None:
        self._begin()
        _judge(self, await find(), splits_warnings)

    return test_check


async def _problems_async(check: Check) -> list[Exception]:
    try:
        await check.make().run()
    except _Problem as problem:
        return [problem]
    return []


def _problems(check: Check) -> list[Exception]:
    """What the check says itself; an exception that it did not expect is let through."""
    instance = check.make()
    if hasattr(instance, "run_check"):  # release 3
        instance.run_check()
        return list(instance.errors)
    try:
        instance.run()
    except _Problem as problem:
        return [problem]
    return []


def _keep_warnings(case: type[HealthCheck], problems: list[Exception]) -> None:
    warnings = [p for p in problems if isinstance(p, exceptions.ServiceWarning)]
    case._warnings = "\n".join(map(str, warnings))


def _judge(test: HealthCheck, problems: list[Exception], splits_warnings: bool) -> None:
    warnings = [p for p in problems if isinstance(p, exceptions.ServiceWarning)]
    if splits_warnings:
        problems = [p for p in problems if p not in warnings]
        _keep_warnings(type(test), warnings)
    if problems:
        test.fail("\n".join(map(str, problems)))


def _warning_test(find: Callable[[], list[Exception]]) -> Callable[[HealthCheck], None]:
    @options(severity="warning")
    def test_warning(self: HealthCheck) -> None:
        """The check of django-health-check gives no warning: its service is in good order.

        It tells what `test_check` found in the same run, and runs the check only where that one
        was left out.
        """
        if not self._was_asked:
            self._begin()
            with suppress(Exception):  # of which test_check will tell
                _keep_warnings(type(self), find())
        if self._warnings is None:
            self.skipTest("test_check has not run to its end")
        if self._warnings:
            self.fail(self._warnings)

    return test_warning
