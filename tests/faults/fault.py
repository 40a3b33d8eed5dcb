"""A row of the fault table, and how the modules beside this one write them."""

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
    from tests.faults.places import Place

#: Seconds that a test of a row may take if it is to run out of time, and any other.
SHORT, LONG = 0.25, 60.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What comes of a fault on one kind of database."""

    #: In a word, for the table of the documentation.
    word: str
    #: The outcomes of the tests, in their order.
    outcomes: Sequence[str]
    #: What the message of the first problem says, in whichever case; ``{holder}`` is who holds
    #: the lock, as the database names it.
    says: Sequence[str] = ()
    #: Whether it can only be found out, so that what the test wrote before is kept.
    is_kept: bool = False
    #: Whether nobody can free what the test holds before it returns.
    is_held: bool = False
    #: Lock timeout in seconds, where it differs from that of the row.
    lock_timeout: float | None = None


def passes(*outcomes: str, word: str = "passes, rolled back") -> Expected:
    """It works as on any connection, and nothing is kept."""
    return Expected(word, outcomes or ("passed",))


def refused(*says: str, alias: str = "default", word: str = "refused") -> Expected:
    """Isolation does not let it through, and names the alias and the statement."""
    return Expected(word, ("errored",), (f"'{alias}'", *says))


def found_out(*says: str) -> Expected:
    """It cannot be seen beforehand; the test is errored, and what it wrote before is kept."""
    return Expected("found out", ("errored",), ("'default'", *says), is_kept=True)


def fails(
    *says: str,
    outcomes: Sequence[str] = ("errored",),
    word: str = "errored",
    lock_timeout: float | None = None,
) -> Expected:
    """The database, or Django, raises in the test."""
    return Expected(word, outcomes, says, lock_timeout=lock_timeout)


def times_out(*then: str, says: str = "timed out after") -> Expected:
    """The answer comes in time, and what the test held is free at once."""
    return Expected("timed out, freed", ("timed_out", *then), (says,))


#: What production does meanwhile, in a context.
Meanwhile = Callable[["Place"], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row: what a test does, what is promised, and what comes of it on each database."""

    id: str
    #: The module that it stands in.
    theme: str
    #: What the test, or production beside it, does.
    text: str
    promise: str
    #: By `Place.vendor`; a database that does not know the fault is left out.
    expected: Mapping[str, Expected]
    case: type[SmokeTest]
    #: ``setUpModule`` and the like.
    module: Mapping[str, Callable[[], Any]]
    meanwhile: Meanwhile
    #: Changes to the settings of the alias ``default``.
    settings: Mapping[str, Any]
    #: Seconds that its tests may take, and that they may wait for a lock.
    timeout: float
    lock_timeout: float
    #: 0 runs without threads, so that nobody watches the clock.
    workers: int
    #: Whether it leaves objects behind that warn when they are collected.
    is_untidy: bool

    def suite(self, place: Place) -> Suite:
        """Its tests, as discovery would have found them."""
        self.case.place = place  # type: ignore[attr-defined]
        outcomes = self.expected[place.vendor].outcomes
        if len(outcomes) == len(_methods(self.case)):  # so that none belongs to a fixture
            timeouts = [LONG if outcome == "passed" else self.timeout for outcome in outcomes]
        else:
            timeouts = []
        return suite(
            self.case, self.id, module=self.module, timeout=self.timeout, timeouts=timeouts
        )


#: All rows of the modules that were imported; see `tests.faults.table`.
ROWS: list[Fault] = []

VENDORS = ("sqlite", "postgresql", "mysql")


def fault(
    promise: str,
    everywhere: Expected | None = None,
    *,
    sqlite: Expected | None = None,
    postgresql: Expected | None = None,
    mariadb: Expected | None = None,
    meanwhile: Meanwhile = lambda _: nullcontext(),
    settings: Mapping[str, Any] = {},
    timeout: float | None = None,
    lock_timeout: float = 0.5,
    workers: int = 1,
    is_untidy: bool = False,
    module: Mapping[str, Callable[[], Any]] = {},
    name: str = "",
    text: str = "",
) -> Callable[[Any], Any]:
    """Make a row of the function, which is a test's body, or of the `SmokeTest` class.

    Its docstring is what the row says.
    """
    given = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mariadb}
    on_each = {vendor: given[vendor] or everywhere for vendor in VENDORS}
    expected = {vendor: one for vendor, one in on_each.items() if one is not None}

    def add(body: Any) -> Any:
        row_id = name or _in_words(body.__name__)
        case = body if isinstance(body, type) else _case(body)
        hangs = any("timed_out" in one.outcomes for one in expected.values())
        ROWS.append(
            Fault(
                id=row_id,
                theme=body.__module__.rpartition(".")[2],
                text=" ".join((text or body.__doc__ or "").split()),
                promise=promise,
                expected=expected,
                case=case,
                module=module,
                meanwhile=meanwhile,
                settings=settings,
                timeout=timeout or (SHORT if hangs else LONG),
                lock_timeout=lock_timeout,
                workers=workers,
                is_untidy=is_untidy,
            )
        )
        return body

    return add


def _case(body: Callable[..., None]) -> type[SmokeTest]:
    """A class with one test; the body may take the test, or nothing."""
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
    """The tests of the class, as discovery would have found them.

    `timeouts` holds one for each of them, if they have not all the same.
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


# What bodies do


def write(name: str = "by the smoke test", alias: str = "default") -> Account:
    """A row that must not stay."""
    return Account.objects.using(alias).create(name=name)


def sql(statement: str, alias: str = "default") -> list[Any]:
    """Run a statement as code under test does, and return its rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def _in_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
