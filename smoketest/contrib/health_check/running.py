"""Runs a check of django-health-check on the thread of its smoke test, and tells what it found.

Its own ``get_result`` is not used: that runs on another thread, outside of the test's transaction,
and hides what was unexpected.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from health_check import exceptions

from smoketest.case import SmokeTest, options
from smoketest.contrib.health_check.found import Check

#: The base of all that a check raises on purpose; its name is not the same in all releases.
_Problem: type[Exception] = exceptions.ServiceWarning.__base__


class HealthCheck(SmokeTest):
    """One check; its subclasses have tests that are made of what the site has."""

    #: The warnings that `test_check` found, for `test_warning`, which runs right after it; None if
    #: it did not get that far.
    _warnings: ClassVar[str | None] = None


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
    made = _async_test if is_async else _sync_test
    test_check = made(check, splits_warnings)
    test_check.__doc__ = f"The check of django-health-check passes. {check.description}"
    attributes["test_check"] = test_check
    if splits_warnings:
        attributes["test_warning"] = _test_warning
    return attributes


def _sync_test(check: Check, splits_warnings: bool) -> Callable[[HealthCheck], None]:
    def test_check(self: HealthCheck) -> None:
        _judge(self, _problems(check.make()), splits_warnings)

    return test_check


def _async_test(check: Check, splits_warnings: bool) -> Callable[[HealthCheck], Awaitable[None]]:
    async def test_check(self: HealthCheck) -> None:
        problems: list[Exception] = []
        try:
            await check.make().run()
        except _Problem as problem:
            problems.append(problem)
        _judge(self, problems, splits_warnings)

    return test_check


def _problems(instance: Any) -> list[Exception]:
    """What the check says itself; an exception that it did not expect is let through."""
    if hasattr(instance, "run_check"):  # release 3
        instance.run_check()
        return list(instance.errors)
    try:
        instance.run()
    except _Problem as problem:
        return [problem]
    return []


def _judge(test: HealthCheck, problems: list[Exception], splits_warnings: bool) -> None:
    warnings = [p for p in problems if isinstance(p, exceptions.ServiceWarning)]
    if splits_warnings:
        problems = [p for p in problems if p not in warnings]
        type(test)._warnings = "\n".join(map(str, warnings))
    if problems:
        test.fail("\n".join(map(str, problems)))


@options(severity="warning")
def _test_warning(self: HealthCheck) -> None:
    """The check of django-health-check gives no warning: its service works and is in good order.

    It does not run the check, but tells what `test_check` found right before.
    """
    warnings, type(self)._warnings = self._warnings, None
    if warnings is None:
        self.skipTest("test_check has not run to its end")
    if warnings:
        self.fail(warnings)
