"""Rows of the fault table, and helpers to define them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.db import connections

from smoketest import SmokeTest
from smoketest.runner.discovery import SmokeClass, Suite
from tests.builders import make_declaration
from tests.hanging import hang as hang  # noqa: PLC0414 - for the rows
from tests.ledger.models import Account

if TYPE_CHECKING:
    from tests.faults.backends import Backend

#: Timeouts in seconds: of tests that are expected to time out, and of all others.
SHORT, LONG = 0.25, 60.0


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected result of a fault on a vendor."""

    #: Result in the table of the documentation.
    word: str
    #: Outcomes of the tests, in order.
    outcomes: Sequence[str]
    #: Parts of the message of the first problem, in any case; ``{holder}`` is the name of the lock
    #: holder in the database.
    in_message: Sequence[str] = ()
    #: Whether a commit is only detected afterwards, so that earlier changes of the test are kept.
    is_kept: bool = False
    #: Whether locks of the test cannot be released before it returns.
    is_held: bool = False
    #: Lock timeout in seconds, if it differs from that of the fault.
    lock_timeout: float | None = None
    #: The result on SQLite with a write-ahead log, where it differs.
    in_wal: Expected | None = None


def passes(*outcomes: str, word: str = "passes, rolled back") -> Expected:
    """Works as on any connection, and is rolled back."""
    return Expected(word, outcomes or ("passed",))


def refused(*in_message: str, alias: str = "default", word: str = "refused") -> Expected:
    """Refused by isolation, with the alias and the statement in the message."""
    return Expected(word, ("errored",), (f"'{alias}'", *in_message))


def detected(*in_message: str) -> Expected:
    """Detected only afterwards: the test is errored, and its earlier changes are kept."""
    return Expected("detected afterwards", ("errored",), ("'default'", *in_message), is_kept=True)


def fails(
    *in_message: str,
    outcomes: Sequence[str] = ("errored",),
    word: str = "errored",
    lock_timeout: float | None = None,
) -> Expected:
    """Raises an exception of the database or of Django."""
    return Expected(word, outcomes, in_message, lock_timeout=lock_timeout)


def times_out(*then: str, in_message: str = "timed out after") -> Expected:
    """Times out; everything that the test held is released immediately."""
    return Expected("timed out, freed", ("timed_out", *then), (in_message,))


#: Function that returns a context manager around the run, for operations of production.
RunContext = Callable[["Backend"], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table: an operation, its guarantee, and the expected result for each vendor."""

    id: str
    #: Name of the module that defines it.
    theme: str
    #: Description of the operation.
    text: str
    guarantee: str
    #: By vendor, without those to which the fault does not apply.
    expected: Mapping[str, Expected]
    case: type[SmokeTest]
    #: Attributes of the smoke module, such as ``setUpModule``.
    module: Mapping[str, Callable[[], Any]]
    context: RunContext
    #: Overrides of the settings of the alias ``default``.
    settings: Mapping[str, Any]
    #: Timeout of its tests, and lock timeout, in seconds.
    timeout: float
    lock_timeout: float
    #: Number of workers; 0 runs the tests without threads, so without timeouts.
    workers: int
    #: Whether it leaves objects that issue warnings when they are garbage-collected.
    leaves_garbage: bool

    def expected_on(self, backend: Backend) -> Expected:
        """Return the result on this database."""
        expected = self.expected[backend.vendor]
        return expected.in_wal or expected if backend.has_wal else expected

    def suite(self, backend: Backend) -> Suite:
        """Return its tests, as discovery would."""
        self.case.backend = backend  # type: ignore[attr-defined]
        outcomes = self.expected_on(backend).outcomes
        if len(outcomes) == len(_methods(self.case)):  # none of the outcomes is of a fixture
            timeouts = [LONG if outcome == "passed" else self.timeout for outcome in outcomes]
        else:
            timeouts = []
        return suite(
            self.case, self.id, module=self.module, timeout=self.timeout, timeouts=timeouts
        )


#: All rows of the imported modules; see `tests.faults.table`.
ROWS: list[Fault] = []

VENDORS = ("sqlite", "postgresql", "mysql")


def fault(
    guarantee: str,
    everywhere: Expected | None = None,
    *,
    sqlite: Expected | None = None,
    postgresql: Expected | None = None,
    mariadb: Expected | None = None,
    context: RunContext = lambda _: nullcontext(),
    settings: Mapping[str, Any] = {},
    timeout: float | None = None,
    lock_timeout: float = 0.5,
    workers: int = 1,
    leaves_garbage: bool = False,
    module: Mapping[str, Callable[[], Any]] = {},
    name: str = "",
    text: str = "",
) -> Callable[[Any], Any]:
    """Add a row for the decorated function, the body of a test, or `SmokeTest` class.

    Its docstring describes the operation.
    """
    given = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mariadb}
    on_each = {vendor: given[vendor] or everywhere for vendor in VENDORS}
    expected = {vendor: one for vendor, one in on_each.items() if one is not None}

    def add(body: Any) -> Any:
        row_id = name or _snake_case(body.__name__)
        case = body if isinstance(body, type) else _case(body)
        hangs = any("timed_out" in one.outcomes for one in expected.values())
        ROWS.append(
            Fault(
                id=row_id,
                theme=body.__module__.rpartition(".")[2],
                text=" ".join((text or body.__doc__ or "").split()),
                guarantee=guarantee,
                expected=expected,
                case=case,
                module=module,
                context=context,
                settings=settings,
                timeout=timeout or (SHORT if hangs else LONG),
                lock_timeout=lock_timeout,
                workers=workers,
                leaves_garbage=leaves_garbage,
            )
        )
        return body

    return add


def _case(body: Callable[..., None]) -> type[SmokeTest]:
    """Return a class with a single test, whose body may accept the test as an argument."""
    takes_test = bool(inspect.signature(body).parameters)

    def test_it(self: SmokeTest) -> None:
        if takes_test:
            body(self)
        else:
            body()

    return type(body.__name__, (SmokeTest,), {"test_it": test_it})


def suite(
    case: type[SmokeTest],
    module_name: str,
    *,
    module: Mapping[str, Callable[[], Any]] = {},
    timeout: float = LONG,
    timeouts: Sequence[float] = (),
) -> Suite:
    """Return the tests of a class, as discovery would.

    `timeouts` sets an individual timeout for each test.
    """
    methods = _methods(case)
    smoke = ModuleType(f"{module_name}.smoke")
    vars(smoke).update(module)
    class_id = f"{smoke.__name__}.{case.__name__}"
    databases = case.databases if case.databases == "__all__" else tuple(case.databases)
    declarations = tuple(
        make_declaration(
            f"{class_id}.{method}",
            timeout=seconds,
            databases=databases,
            read_only=case.read_only,
        )
        for method, seconds in zip(methods, timeouts or [timeout] * len(methods), strict=True)
    )
    smoke_class = SmokeClass(id=class_id, case=case, module=smoke, declarations=declarations)
    return Suite(classes=(smoke_class,))


def _methods(case: type[SmokeTest]) -> Sequence[str]:
    return [name for name in dir(case) if name.startswith("test_")]


# Operations


def write(name: str = "by the smoke test", alias: str = "default") -> Account:
    """Create a row, which must be rolled back."""
    return Account.objects.using(alias).create(name=name)


def sql(statement: str, alias: str = "default") -> list[Any]:
    """Run a statement as application code does, and return its rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
