"""Test class for a check of django-health-check, which runs in the thread of the smoke test.

``get_result`` of the check is not used: it runs in another thread, outside the transaction of the
test, and hides unexpected exceptions.
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

#: Base class of the exceptions of django-health-check; its name depends on the release.
_HealthCheckError: type[Exception] = exceptions.ServiceWarning.__base__


class HealthCheck(SmokeTest):
    """Base class of the tests of a check; `make_tests` creates the attributes of a subclass."""

    #: Whether the check was started in this run.
    _was_run: ClassVar[bool] = False
    #: Warnings of the check; None if it did not finish.
    _warnings: ClassVar[str | None] = None

    @classmethod
    def _begin(cls) -> None:
        """Reset the state before the check runs."""
        cls._was_run, cls._warnings = True, None


@receiver(run_finished)
def _reset(**_: object) -> None:
    """Discard the state at the end of a run, even if a test is still running."""
    for case in HealthCheck.__subclasses__():
        case._was_run = False


def make_tests(check: Check, *, warnings_as_errors: bool) -> dict[str, Any]:
    """Return the class attributes for a check: its tests and their options."""
    is_critical = getattr(check.target, "critical_service", True) is not False
    splits_warnings = is_critical and not warnings_as_errors
    attributes: dict[str, Any] = {
        "tags": {"health_check", *check.groups},
        "severity": "critical" if is_critical else "warning",
        "timeout": check.timeout,
    }
    is_async = inspect.iscoroutinefunction(getattr(check.target, "run", None))
    run: Any = partial(_problems_async if is_async else _problems, check)
    test_check = (_async_test if is_async else _sync_test)(run, splits_warnings)
    test_check.__doc__ = f"The check of django-health-check passes. {check.description}"
    attributes["test_check"] = test_check
    if splits_warnings:
        attributes["test_warning"] = _warning_test(async_to_sync(run) if is_async else run)
    return attributes


def _sync_test(run: Callable[[], Any], splits_warnings: bool) -> Callable[[HealthCheck], None]:
    def test_check(self: HealthCheck) -> None:
        self._begin()
        _report_problems(self, run(), splits_warnings)

    return test_check


def _async_test(
    run: Callable[[], Any], splits_warnings: bool
) -> Callable[[HealthCheck], Awaitable[None]]:
    async def test_check(self: HealthCheck) -> None:
        self._begin()
        _report_problems(self, await run(), splits_warnings)

    return test_check


async def _problems_async(check: Check) -> list[Exception]:
    try:
        await check.make().run()
    except _HealthCheckError as problem:
        return [problem]
    return []


def _problems(check: Check) -> list[Exception]:
    """Run the check and return its errors and warnings; unexpected exceptions propagate."""
    instance = check.make()
    if hasattr(instance, "run_check"):  # release 3
        instance.run_check()
        return list(instance.errors)
    try:
        instance.run()
    except _HealthCheckError as problem:
        return [problem]
    return []


def _store_warnings(case: type[HealthCheck], problems: list[Exception]) -> None:
    warnings = [p for p in problems if isinstance(p, exceptions.ServiceWarning)]
    case._warnings = "\n".join(map(str, warnings))


def _report_problems(test: HealthCheck, problems: list[Exception], splits_warnings: bool) -> None:
    warnings = [p for p in problems if isinstance(p, exceptions.ServiceWarning)]
    if splits_warnings:
        problems = [p for p in problems if p not in warnings]
        _store_warnings(type(test), warnings)
    if problems:
        test.fail("\n".join(map(str, problems)))


def _warning_test(run: Callable[[], list[Exception]]) -> Callable[[HealthCheck], None]:
    @options(severity="warning")
    def test_warning(self: HealthCheck) -> None:
        """The check of django-health-check reports no warning.

        The test uses the result of `test_check` in the same run. It runs the check itself if
        `test_check` is not selected.
        """
        if not self._was_run:
            self._begin()
            with suppress(Exception):  # reported by test_check
                _store_warnings(type(self), run())
        if self._warnings is None:
            self.skipTest("test_check did not finish")
        if self._warnings:
            self.fail(self._warnings)

    return test_warning
