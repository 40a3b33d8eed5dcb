"""Find the smoke tests of the installed apps.

The app registry says which apps there are. Each may have a module ``smoke``, or a package of that
name with submodules at any depth. Importing them may run anything at all, so the caller decides
on which thread that happens; a module that cannot be imported is a collection error, never lost.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import time
import unittest
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import ModuleType

from django.apps import apps

from smoketest.case import METHOD_OPTIONS, OPTIONS_ATTRIBUTE, SmokeTest
from smoketest.failures import Failure, clean, describe, is_interrupt
from smoketest.results import Declaration, Outcome, Result, Severity
from smoketest.selection import Selection

MODULE_NAME = "smoke"
METHOD_PREFIX = "test_"
DESCRIPTION_LIMIT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeClass:
    """A `SmokeTest` class and the declarations of its selected tests, in the order they run."""

    case: type[SmokeTest]
    module: ModuleType
    declarations: tuple[Declaration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What was found: classes to run, and a result for every module that could not be imported."""

    classes: tuple[SmokeClass, ...] = ()
    collection_errors: tuple[Result, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.classes or self.collection_errors)

    @property
    def declarations(self) -> Iterator[Declaration]:
        for smoke_class in self.classes:
            yield from smoke_class.declarations


def discover(
    selection: Selection,
    *,
    skip_apps: Collection[str],
    timeout: float,
    slow_after: float,
    importing: Callable[[tuple[str, str]], None],
) -> Suite:
    """Import the smoke modules of all apps, and select tests from them.

    `skip_apps` holds names or labels of apps; `timeout` and `slow_after` hold, in seconds, for
    tests that declare none. `importing` is told the label of the app and the name of each module
    before it is imported.
    """
    classes: list[SmokeClass] = []
    errors: list[Result] = []
    for app in apps.get_app_configs():
        if app.name in skip_apps or app.label in skip_apps:
            continue
        for found in _import_smoke_modules(app.label, f"{app.name}.{MODULE_NAME}", importing):
            if isinstance(found, Result):
                errors.append(found)
                continue
            for case in _smoke_classes(found):
                declared = (
                    _declare(case, method, app.label, timeout, slow_after)
                    for method in _method_names(case)
                )
                if selected := tuple(d for d in declared if d.is_selected_by(selection)):
                    classes.append(SmokeClass(case=case, module=found, declarations=selected))
    return Suite(classes=tuple(classes), collection_errors=tuple(errors))


def collection_error(
    app_label: str,
    module_name: str,
    *,
    outcome: Outcome,
    failure: Failure,
    started_at: float,
    duration: float,
) -> Result:
    """The critical result that stands for a smoke module which could not be imported."""
    declaration = Declaration(
        id=module_name,
        app=app_label,
        timeout=duration,
        slow_after=duration,
        is_collection_error=True,
    )
    return Result(
        declaration=declaration,
        outcome=outcome,
        started_at=started_at,
        duration=duration,
        **failure,
    )


def _import_smoke_modules(
    app_label: str, name: str, importing: Callable[[tuple[str, str]], None]
) -> Iterator[ModuleType | Result]:
    """The module of that name, if there is one, and all below it; a result for each failure."""
    importing((app_label, name))
    started_at, started = time.time(), time.monotonic()
    try:
        if importlib.util.find_spec(name) is None:
            return
        module = importlib.import_module(name)
    except BaseException as error:
        if is_interrupt(error):
            raise
        yield collection_error(
            app_label,
            name,
            outcome=Outcome.ERRORED,
            failure=describe(error),
            started_at=started_at,
            duration=time.monotonic() - started,
        )
        return
    yield module
    for submodule in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield from _import_smoke_modules(app_label, f"{name}.{submodule.name}", importing)


def _smoke_classes(module: ModuleType) -> Iterator[type[SmokeTest]]:
    """The classes that the module itself defines, each once, in the order of their definition."""
    seen: set[type] = set()
    for value in list(vars(module).values()):
        if (
            isinstance(value, type)
            and issubclass(value, SmokeTest)
            and value.__module__ == module.__name__
            and value not in seen
        ):
            seen.add(value)
            yield value


def _method_names(case: type[SmokeTest]) -> list[str]:
    loader = unittest.TestLoader()
    loader.testMethodPrefix = METHOD_PREFIX
    return list(loader.getTestCaseNames(case))


def _declare(
    case: type[SmokeTest], method_name: str, app_label: str, timeout: float, slow_after: float
) -> Declaration:
    method = getattr(case, method_name)
    overrides = getattr(method, OPTIONS_ATTRIBUTE, {})
    declared = {name: overrides.get(name, getattr(case, name)) for name in METHOD_OPTIONS}
    tags = {*getattr(case, "tags", ()), *getattr(method, "tags", ())}
    return Declaration(
        id=f"{case.__module__}.{case.__qualname__}.{method_name}",
        app=app_label,
        severity=Severity(declared["severity"]),
        timeout=timeout if declared["timeout"] is None else declared["timeout"],
        slow_after=slow_after if declared["slow_after"] is None else declared["slow_after"],
        every=declared["every"],
        maintainer=declared["maintainer"],
        runbook_url=declared["runbook_url"],
        description=_first_paragraph(inspect.getdoc(method) or ""),
        tags=tuple(sorted(tags)),
        databases="__all__" if case.databases == "__all__" else tuple(sorted(case.databases)),
        read_only=case.read_only,
    )


def _first_paragraph(docstring: str) -> str:
    """In one line, and in characters that can be shown anywhere."""
    paragraph = docstring.strip().partition("\n\n")[0]
    return clean(" ".join(paragraph.split()), DESCRIPTION_LIMIT)
