"""What the author of a smoke test writes with: `SmokeTest`, `tag` and `options`."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import math
import sys
import unittest
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction

from smoketest.results import Severity

if TYPE_CHECKING:
    from smoketest.client import SmokeClient

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | type[unittest.TestCase])
Method = TypeVar("Method", bound=Callable[..., Any])

#: Attribute in which `options` leaves what a method overrides.
OPTIONS_ATTRIBUTE = "_smoketest_options"


class SmokeTest(unittest.TestCase):
    """A smoke test case: a `unittest.TestCase` whose ``test_*`` methods run on the live site.

    The attributes may be overridden by a subclass and, all but `databases` and `read_only`, by
    `options` on a method. A wrong value raises `TypeError` or `ValueError` where it is written.
    """

    #: ``"critical"``, or ``"warning"``: reported, but the run still passes.
    severity: ClassVar[str] = "critical"
    #: Seconds a test may take, setUp and tearDown included; None: ``SMOKETEST_TIMEOUT``.
    timeout: ClassVar[float | None] = None
    #: Seconds after which a test counts as slow; None: ``SMOKETEST_SLOW_AFTER``.
    slow_after: ClassVar[float | None] = None
    #: A test is not run again before this many seconds have passed.
    every: ClassVar[float] = 0
    #: Database aliases that the tests may use; any other is refused.
    databases: ClassVar[Collection[str]] = "__all__"
    #: Whether the database refuses the tests' writes.
    read_only: ClassVar[bool] = False
    #: Who looks after the tests; a label, by which alerts are routed.
    maintainer: ClassVar[str] = ""
    #: Where to read what to do when a test fails.
    runbook_url: ClassVar[str] = ""

    #: A custom message is printed alone, without the values that unittest would add.
    longMessage = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _VALIDATORS:
            _validate(f"{cls.__qualname__}.{name}", name, getattr(cls, name))

    @functools.cached_property
    def client(self) -> SmokeClient:
        """A browser of this site, new for each test; see `smoketest.client.SmokeClient`."""
        # Django's client is heavy, and most sites start without need of it.
        from smoketest.client import SmokeClient  # noqa: PLC0415

        client = SmokeClient()
        self.addCleanup(client.close)
        return client

    #: Ends the coroutine that runs, if one does.
    _cancel: Callable[[], object] = staticmethod(lambda: None)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test as unittest does; an ``async def`` test runs to its end.

        `asgiref.sync.async_to_sync` keeps what the ORM does inside on the thread, and so on the
        database connections, of the caller.
        """
        self._make_sync()
        return super().run(result)

    def debug(self) -> None:
        """Run the test, and let what it raises through."""
        self._make_sync()
        super().debug()

    def _make_sync(self) -> None:
        method = getattr(self, self._testMethodName)
        if iscoroutinefunction(method):

            async def run_cancellably() -> None:
                loop, task = asyncio.get_running_loop(), asyncio.current_task()
                self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]
                await method()

            @functools.wraps(method)  # unittest reads its marks, such as expectedFailure's
            def run_to_its_end() -> None:
                if _is_gevent():
                    self.skipTest(
                        "an async test cannot run in a process of gevent: its event loop would be"
                        " that of all greenlets; manage.py smoketest runs it"
                    )
                async_to_sync(run_cancellably)()

            setattr(self, self._testMethodName, run_to_its_end)

    def cancel(self) -> None:
        """End an ``async def`` test where it awaits; may be called from another thread.

        Threads cannot be ended, but coroutines can.
        """
        with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
            self._cancel()


def _is_gevent() -> bool:
    """Whether the threads of this process are greenlets of one thread."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def tag(*names: str) -> Callable[[Decorated], Decorated]:
    """Name groups that a test method or class belongs to, by which a run can select it.

    Like `django.test.tag`, which works as well, but without importing Django's test framework.
    """
    if not names or not all(names) or any(not isinstance(name, str) for name in names):
        msg = f"tag() takes one or more names of groups, for example @tag('db'); got {names!r}."
        raise TypeError(msg)

    def decorate(decorated: Decorated) -> Decorated:
        tags: set[str] = set(getattr(decorated, "tags", ()))
        decorated.tags = tags.union(names)  # type: ignore[union-attr]
        return decorated

    return decorate


def options(**overrides: Any) -> Callable[[Method], Method]:
    """Override, for one test method, what its class declares.

    For example ``@options(timeout=2, severity="warning")``. Raises `TypeError` for an unknown
    option or a value of the wrong type, and `ValueError` for a value out of range.
    """
    for name, value in overrides.items():
        if name not in METHOD_OPTIONS:
            close = difflib.get_close_matches(name, METHOD_OPTIONS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            msg = f"options() has no {name!r}; it takes {', '.join(METHOD_OPTIONS)}.{hint}"
            raise TypeError(msg)
        _validate(f"options({name}=...)", name, value)

    def decorate(method: Method) -> Method:
        if isinstance(method, type):
            msg = f"options() is for test methods; set attributes on {method.__qualname__} instead."
            raise TypeError(msg)
        merged = {**getattr(method, OPTIONS_ATTRIBUTE, {}), **overrides}
        setattr(method, OPTIONS_ATTRIBUTE, merged)
        return method

    return decorate


def _validate(where: str, name: str, value: object) -> None:
    if (complaint := _VALIDATORS[name](value)) is not None:
        error, allowed = complaint
        msg = f"{where} = {value!r}: must be {allowed}."
        raise error(msg)


#: The error to raise and what is allowed, or None for a good value.
_Complaint = tuple[type[Exception], str] | None


def _severity(value: object) -> _Complaint:
    if value in list(Severity):
        return None
    return ValueError, " or ".join(repr(str(severity)) for severity in Severity)


def _seconds(*, zero: bool = False, none: bool = False) -> Callable[[object], _Complaint]:
    least = "0 or more" if zero else "more than 0"
    allowed = f"a number of seconds, {least}" + (", or None" if none else "")

    def validate(value: object) -> _Complaint:
        if none and value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return TypeError, allowed
        is_in_range = 0 <= value < math.inf if zero else 0 < value < math.inf
        return None if is_in_range else (ValueError, allowed)

    return validate


def _databases(value: object) -> _Complaint:
    if value == "__all__":
        return None
    if (
        isinstance(value, Collection)
        and not isinstance(value, (str, bytes))
        and all(isinstance(alias, str) for alias in value)
    ):
        return None
    return TypeError, "a collection of database aliases, such as {'default'}, or '__all__'"


def _instance_of(kind: type, allowed: str) -> Callable[[object], _Complaint]:
    return lambda value: None if isinstance(value, kind) else (TypeError, allowed)


_VALIDATORS: dict[str, Callable[[object], _Complaint]] = {
    "severity": _severity,
    "timeout": _seconds(none=True),
    "slow_after": _seconds(none=True),
    "every": _seconds(zero=True),
    "maintainer": _instance_of(str, "a string"),
    "runbook_url": _instance_of(str, "a string"),
    "databases": _databases,
    "read_only": _instance_of(bool, "True or False"),
}

#: What `options` may override. The databases and whether they may be written belong to the
#: class, whose fixtures share the transaction.
METHOD_OPTIONS = tuple(name for name in _VALIDATORS if name not in {"databases", "read_only"})
