"""The base class `SmokeTest`, and the decorators `tag` and `options`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import unittest
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from importlib import import_module
from inspect import getattr_static
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.db import DEFAULT_DB_ALIAS

from smoketest.results import Severity
from smoketest.validators import (
    BOOLEAN,
    POSITIVE_SECONDS,
    SECONDS,
    STRING,
    Validator,
    choice,
    did_you_mean,
)

if TYPE_CHECKING:
    from django.test import TestCase

    from smoketest.client import AsyncSmokeClient, SmokeClient

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | type[unittest.TestCase])
Method = TypeVar("Method", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

#: Name of the attribute in which `options` stores overrides on a method.
OPTIONS_ATTRIBUTE = "_smoketest_options"


def _testcases() -> Any:
    """Return Django's test framework, which is slow to import."""
    return import_module("django.test.testcases")


if TYPE_CHECKING:

    class _Borrowed(Generic[P, R]):
        def __get__(self, test: object, owner: object = None) -> Callable[P, R]: ...

    def _borrow(function: Callable[Concatenate[Any, P], R]) -> _Borrowed[P, R]: ...


class _DjangoAssertions(unittest.TestCase):
    """The assertions of `django.test.TestCase`, imported on first use."""

    if TYPE_CHECKING:
        assertContains = _borrow(TestCase.assertContains)
        assertFieldOutput = _borrow(TestCase.assertFieldOutput)
        assertFormError = _borrow(TestCase.assertFormError)
        assertFormSetError = _borrow(TestCase.assertFormSetError)
        assertHTMLEqual = _borrow(TestCase.assertHTMLEqual)
        assertHTMLNotEqual = _borrow(TestCase.assertHTMLNotEqual)
        assertInHTML = _borrow(TestCase.assertInHTML)
        assertJSONEqual = _borrow(TestCase.assertJSONEqual)
        assertJSONNotEqual = _borrow(TestCase.assertJSONNotEqual)
        assertNotContains = _borrow(TestCase.assertNotContains)
        assertNotInHTML = _borrow(TestCase.assertNotInHTML)
        assertQuerySetEqual = _borrow(TestCase.assertQuerySetEqual)
        assertRedirects = _borrow(TestCase.assertRedirects)
        assertURLEqual = _borrow(TestCase.assertURLEqual)
        assertXMLEqual = _borrow(TestCase.assertXMLEqual)
        assertXMLNotEqual = _borrow(TestCase.assertXMLNotEqual)

        # Overloaded in Django: with a callable, they call it instead of returning a context.
        @overload
        def assertNumQueries(
            self, num: int, *, using: str = DEFAULT_DB_ALIAS
        ) -> AbstractContextManager[Any]: ...
        @overload
        def assertNumQueries(
            self, num: int, func: Callable[..., object], *args: object, **kwargs: object
        ) -> None: ...
        def assertNumQueries(self, *args: Any, **kwargs: Any) -> Any: ...
        @overload
        def assertRaisesMessage(
            self, expected_exception: type[BaseException], expected_message: str
        ) -> AbstractContextManager[Any]: ...
        @overload
        def assertRaisesMessage(
            self,
            expected_exception: type[BaseException],
            expected_message: str,
            callable: Callable[..., object],
            *args: object,
            **kwargs: object,
        ) -> None: ...
        def assertRaisesMessage(self, *args: Any, **kwargs: Any) -> Any: ...
        @overload
        def assertWarnsMessage(
            self, expected_warning: type[Warning], expected_message: str
        ) -> AbstractContextManager[Any]: ...
        @overload
        def assertWarnsMessage(
            self,
            expected_warning: type[Warning],
            expected_message: str,
            callable: Callable[..., object],
            *args: object,
            **kwargs: object,
        ) -> None: ...
        def assertWarnsMessage(self, *args: Any, **kwargs: Any) -> Any: ...

    else:

        def __getattr__(self, name: str) -> Any:
            if name.startswith(("assert", "_assert")):
                function = getattr(_testcases().TestCase, name, None)
                if isinstance(function, FunctionType):
                    return function.__get__(self)
            msg = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(msg, name=name, obj=self)


class AssertionMessage(str):  # noqa: SLOT000 - subclasses of str have no slots with values
    """The message of a failed assertion, with the part that the author of the test has passed."""

    authored: str

    def __new__(cls, text: str, authored: str) -> Self:
        self = super().__new__(cls, text)
        self.authored = authored
        return self


class SmokeTest(_DjangoAssertions):
    """Base class of smoke tests: a `unittest.TestCase` whose tests run in the live site.

    Define subclasses in the ``smoke`` module of an app::

        class OrdersTest(SmokeTest):
            timeout = 5

            def test_order_can_be_saved(self):
                Order.objects.create(reference="smoke")

    Each test runs in a transaction that is rolled back, on every database that it uses. The
    assertions of `django.test.TestCase` are available, such as ``assertContains()`` and
    ``assertNumQueries()``.

    Override the attributes in a subclass, or for a single method with `options` (except `databases`
    and `read_only`). An invalid value raises `TypeError` or `ValueError` when the class or method
    is defined.
    """

    #: ``"critical"``, or ``"warning"``: a failure is reported, but the run passes.
    severity: ClassVar[Literal["critical", "warning"]] = "critical"
    #: Timeout of a test in seconds, including ``setUp()`` and ``tearDown()``. None means
    #: ``SMOKETEST_TIMEOUT``.
    timeout: ClassVar[float | None] = None
    #: Slow threshold in seconds; an alert fires for tests that take longer. None means
    #: ``SMOKETEST_SLOW_AFTER``.
    slow_after: ClassVar[float | None] = None
    #: Minimum time between two executions of a test, in seconds. 0 means that each run executes it.
    every: ClassVar[float] = 0
    #: Aliases of the databases that the tests may use; access to others is refused.
    #: ``"__all__"`` means all databases of the site.
    databases: ClassVar[Collection[str] | Literal["__all__"]] = "__all__"
    #: Whether the databases refuse writes.
    read_only: ClassVar[bool] = False
    #: Team or person responsible for the tests; a label of the metrics, used to route alerts.
    maintainer: ClassVar[str] = ""
    #: URL of the instructions for a failure; the HTML page and the alert link to it.
    runbook_url: ClassVar[str] = ""

    #: Whether a message that is passed to an assertion is appended to the default message. False
    #: means that reports show only the passed message, unlike in unittest.
    longMessage = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, validator in _VALIDATORS.items():
            validator.validate(f"{cls.__qualname__}.{name}", getattr(cls, name))
        for base in cls.__mro__:
            if base.__module__ == "django.test.testcases":
                msg = (
                    f"{cls.__qualname__} may not derive from {base.__qualname__}, which changes"
                    " connections and settings of the whole process. Derive it from SmokeTest,"
                    " which has Django's assertions."
                )
                raise TypeError(msg)
        for name in _FIXTURES:
            defined = getattr_static(cls, name, None)
            if iscoroutinefunction(getattr(defined, "__func__", defined)):
                msg = (
                    f"{cls.__qualname__}.{name}() would never be awaited: tests can be coroutines,"
                    " fixtures cannot. Write setUp() and tearDown() without async; they can call"
                    " coroutines with asgiref.sync.async_to_sync."
                )
                raise TypeError(msg)
        for name, reason in _UNSUPPORTED.items():
            value = getattr(cls, name, None)
            if value is True or (isinstance(value, (list, tuple)) and value):
                raise TypeError(f"{cls.__qualname__}.{name} is not supported: {reason}")

    @classmethod
    def setUpClass(cls) -> None:
        """Call `setUpTestData`. Each test has its own copies of the objects that it assigns."""
        super().setUpClass()
        before = dict(vars(cls))
        try:
            cls.setUpTestData()
        finally:
            for name, value in dict(vars(cls)).items():
                if value is not before.get(name):
                    data = _testcases().TestData(name, value)
                    setattr(cls, name, data)
                    cls.addClassCleanup(cls._remove_test_data, name, data, before)

    @classmethod
    def _remove_test_data(cls, name: str, data: object, before: dict[str, object]) -> None:
        """Restore an attribute of the class, so that the next run does not find rolled-back rows.

        Unless the fixtures have run again since, because a test of the class timed out.
        """
        if vars(cls).get(name) is not data:
            return
        if name in before:
            setattr(cls, name, before[name])
        else:
            delattr(cls, name)

    @classmethod
    def setUpTestData(cls) -> None:
        """Create rows for all tests of the class, and assign them to attributes of the class.

        They are locked until the last test of the class has ended.
        """

    @classmethod
    def captureOnCommitCallbacks(  # noqa: N802 - Django's name
        cls, *, using: str = DEFAULT_DB_ALIAS, execute: bool = False
    ) -> AbstractContextManager[list[Callable[[], object]]]:
        """Collect the ``on_commit()`` callbacks that the block registers; they never run.

        Raises `TypeError` if `execute` is true: callbacks have effects outside of the database.
        """
        if execute:
            msg = (
                "captureOnCommitCallbacks(execute=True) is not supported in a smoke test: callbacks"
                " have effects that are not rolled back, such as tasks and mail. Call the function"
                " under test directly."
            )
            raise TypeError(msg)
        callbacks: AbstractContextManager[list[Callable[[], object]]]
        callbacks = _testcases().TestCase.captureOnCommitCallbacks(using=using)
        return callbacks

    def settings(self, **kwargs: object) -> NoReturn:
        """Raise `TypeError`: the settings of a live site must not change."""
        raise TypeError(_CHANGES_SETTINGS.format("settings"))

    def modify_settings(self, **kwargs: object) -> NoReturn:
        """Raise `TypeError`: the settings of a live site must not change."""
        raise TypeError(_CHANGES_SETTINGS.format("modify_settings"))

    def assertTemplateUsed(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise `TypeError`: the templates of a live site are not instrumented."""
        raise TypeError(_NEEDS_TEMPLATES.format("assertTemplateUsed"))

    def assertTemplateNotUsed(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise `TypeError`: the templates of a live site are not instrumented."""
        raise TypeError(_NEEDS_TEMPLATES.format("assertTemplateNotUsed"))

    @functools.cached_property
    def async_client(self) -> AsyncSmokeClient:
        """A `smoketest.client.AsyncSmokeClient`: `client` for tests that are coroutines."""
        from smoketest.client import AsyncSmokeClient  # noqa: PLC0415

        return AsyncSmokeClient(self.client)

    @functools.cached_property
    def client(self) -> SmokeClient:
        """A `smoketest.client.SmokeClient` for requests to this site.

        Each test has a new client, which is closed when the test ends.
        """
        # Importing Django's test client is slow, and most processes do not need it.
        from smoketest.client import SmokeClient  # noqa: PLC0415

        client = SmokeClient()
        client.test_id = self.id()
        self.addCleanup(client.close)
        return client

    #: Cancels the running coroutine, if any.
    _cancel: Callable[[], object] = staticmethod(lambda: None)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test like `unittest.TestCase.run`; ``async def`` tests run until they complete.

        `asgiref.sync.async_to_sync` runs ORM calls of the coroutine in the calling thread, and
        therefore with its database connections.
        """
        self._make_sync()
        return super().run(result)

    def debug(self) -> None:
        """Run the test without collecting its exceptions."""
        self._make_sync()
        super().debug()

    def _formatMessage(self, msg: Any, standardMsg: str) -> Any:  # noqa: N802, N803 - of unittest
        message: object = super()._formatMessage(msg, standardMsg)
        if not isinstance(message, str):  # without longMessage, any object that was passed
            return message
        return AssertionMessage(message, "" if msg is None else str(msg))

    def _make_sync(self) -> None:
        method = getattr(self, self._testMethodName)
        if iscoroutinefunction(method):

            async def run_cancellably() -> None:
                loop, task = asyncio.get_running_loop(), asyncio.current_task()
                self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]
                await method()

            @functools.wraps(method)  # keeps attributes such as that of expectedFailure
            def run_to_its_end() -> None:
                if _is_gevent():
                    self.skipTest(
                        "async tests cannot run in a gevent process, where all greenlets share one"
                        " event loop; run them with manage.py smoketest"
                    )
                async_to_sync(run_cancellably)()

            setattr(self, self._testMethodName, run_to_its_end)

    def cancel(self) -> None:
        """Cancel a running ``async def`` test at its current ``await``.

        May be called from another thread. Has no effect on synchronous tests, because threads
        cannot be cancelled.
        """
        with contextlib.suppress(RuntimeError):  # the event loop is already closed
            self._cancel()


def _is_gevent() -> bool:
    """Return whether gevent has replaced the threads of this process with greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def tag(*names: str) -> Callable[[Decorated], Decorated]:
    """Add tags to a test method or class, by which a run can select tests.

    Tags add up: a test has its own tags, those of its class and those of the base classes. Raises
    `TypeError` unless all names are non-empty strings::

        @tag("checkout", "readiness")
        def test_cart(self): ...

    Equivalent to `django.test.tag`, which also works, but does not import Django's test framework.
    """
    if not names or not all(names) or any(not isinstance(name, str) for name in names):
        msg = f"tag() takes one or more non-empty strings, such as @tag('db'); got {names!r}."
        raise TypeError(msg)

    def decorate(decorated: Decorated) -> Decorated:
        tags: set[str] = set(getattr(decorated, "tags", ()))
        decorated.tags = tags.union(names)  # type: ignore[union-attr]
        return decorated

    return decorate


class MethodOptions(TypedDict, total=False):
    """The arguments of `options`."""

    severity: Literal["critical", "warning"]
    timeout: float | None
    slow_after: float | None
    every: float
    maintainer: str
    runbook_url: str


def options(**overrides: Unpack[MethodOptions]) -> Callable[[Method], Method]:
    """Override attributes of the class for a single test method.

    The keyword arguments are attributes of `SmokeTest`: `severity`, `timeout`, `slow_after`,
    `every`, `maintainer` and `runbook_url`. `databases` and `read_only` are not allowed, because
    the tests of a class share the transaction of its fixtures::

        @options(severity="warning", timeout=2)
        def test_few_orders_wait(self): ...

    Raises `TypeError` for an unknown option, a value of the wrong type or a decorated class, and
    `ValueError` for a value out of range.
    """
    for name, value in overrides.items():
        if name not in METHOD_OPTIONS:
            msg = f"options() has no option {name!r}; it takes {', '.join(METHOD_OPTIONS)}."
            raise TypeError(f"{msg} {did_you_mean(name, METHOD_OPTIONS)}".rstrip())
        _VALIDATORS[name].validate(f"options(): {name}", value)

    def decorate(method: Method) -> Method:
        if isinstance(method, type):
            msg = f"options() is for test methods; set attributes on {method.__qualname__} instead."
            raise TypeError(msg)
        merged = {**getattr(method, OPTIONS_ATTRIBUTE, {}), **overrides}
        setattr(method, OPTIONS_ATTRIBUTE, merged)
        return method

    return decorate


#: Methods that unittest calls around tests; those of `IsolatedAsyncioTestCase` are not called.
_FIXTURES = (
    "setUp",
    "tearDown",
    "setUpClass",
    "tearDownClass",
    "setUpTestData",
    "asyncSetUp",
    "asyncTearDown",
)
_SETS_SEQUENCES = (
    "it sets sequences of the database, which a rollback does not undo. Create rows in setUp,"
    " setUpClass or setUpTestData."
)
#: Attributes of Django's test cases, with the reason for which they are refused.
_UNSUPPORTED = {
    "fixtures": _SETS_SEQUENCES,
    "reset_sequences": _SETS_SEQUENCES,
    "serialized_rollback": "a smoke test never flushes the tables of a live site. Remove it.",
}
_CHANGES_SETTINGS = (
    "{}() is not supported in a smoke test, because its process also serves visitors. Pass the"
    " value to the code under test, or write a unit test."
)
_NEEDS_TEMPLATES = (
    "{}() is not supported in a smoke test, because the templates of a live site are not"
    " instrumented. Check the content of the response, for example with assertContains()."
)

_DATABASES = Validator(
    "a collection of database aliases, such as {'default'}, or '__all__'",
    lambda value: (
        value == "__all__"
        or (
            isinstance(value, Collection)
            and not isinstance(value, (str, bytes))
            and all(isinstance(alias, str) for alias in value)
        )
    ),
)
_VALIDATORS = {
    "severity": choice(Severity),
    "timeout": POSITIVE_SECONDS.or_none(),
    "slow_after": POSITIVE_SECONDS.or_none(),
    "every": SECONDS,
    "maintainer": STRING,
    "runbook_url": STRING,
    "databases": _DATABASES,
    "read_only": BOOLEAN,
}

#: Arguments of `options`. `databases` and `read_only` apply to the class, because its tests share
#: the transaction of the class fixtures.
METHOD_OPTIONS = tuple(MethodOptions.__annotations__)
