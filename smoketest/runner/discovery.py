"""Discovery of the smoke tests of the installed apps.

An app may have a module ``smoke``, or a package of that name with submodules at any depth. The
import runs arbitrary code, so the caller chooses the thread. A module that cannot be imported
becomes a collection error.
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
from smoketest.results import Declaration, Outcome, Result, Selection, Severity
from smoketest.runner.failures import (
    Failure,
    clean,
    encodable,
    from_exception,
    is_interrupt,
    with_prefix,
)
from smoketest.runner.overlooked import overlooked, require_asserts

MODULE_NAME = "smoke"
METHOD_PREFIX = "test_"
#: Maximum length, in characters, of declared texts such as descriptions.
TEXT_LIMIT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeClass:
    """A `SmokeTest` class and the declarations of its selected tests, in running order."""

    #: ``module.Class``
    id: str
    case: type[SmokeTest]
    module: ModuleType
    declarations: tuple[Declaration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Discovered classes, and a result for each module that could not be imported."""

    classes: tuple[SmokeClass, ...] = ()
    collection_errors: tuple[Result, ...] = ()
    #: Sentences about tests that do not run, see `smoketest.runner.overlooked`.
    overlooked: tuple[str, ...] = ()

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
    """Import the smoke modules of all apps, and return the selected tests.

    `skip_apps` contains names or labels of apps. `timeout` and `slow_after` are the defaults of
    tests, in seconds. `importing` is called with the app label and the name of each module before
    the module is imported.
    """
    builder = _SuiteBuilder(selection, timeout, slow_after, importing)
    for app in apps.get_app_configs():
        if app.name not in skip_apps and app.label not in skip_apps:
            builder.visit(app.label, f"{app.name}.{MODULE_NAME}")
    return Suite(
        classes=tuple(builder.classes),
        collection_errors=tuple(builder.collection_errors),
        overlooked=tuple(builder.overlooked),
    )


def collection_error(
    app_label: str,
    module_name: str,
    *,
    outcome: Outcome,
    failure: Failure,
    started_at: float,
    duration: float,
) -> Result:
    """Return the critical result for a smoke module that could not be imported."""
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
        **with_prefix("cannot be imported", failure),
    )


class _SuiteBuilder:
    """Collects the selected tests of smoke modules."""

    def __init__(
        self,
        selection: Selection,
        timeout: float,
        slow_after: float,
        importing: Callable[[tuple[str, str]], None],
    ) -> None:
        self.classes: list[SmokeClass] = []
        self.collection_errors: list[Result] = []
        self.overlooked: list[str] = []
        self._selection = selection
        self._timeout = timeout
        self._slow_after = slow_after
        self._importing = importing

    def visit(self, app_label: str, module_name: str) -> None:
        """Collect the tests of a module, if it exists, and of its submodules."""
        self._importing((app_label, module_name))
        module: ModuleType | None = None
        started_at, started = time.time(), time.monotonic()
        try:
            if importlib.util.find_spec(module_name) is None:
                return
            module = importlib.import_module(module_name)
            require_asserts(module)
            self.classes += self._classes_of(module, app_label)
            self.overlooked += overlooked(module, METHOD_PREFIX)
        except BaseException as error:
            if is_interrupt(error):
                raise
            self.collection_errors.append(
                collection_error(
                    app_label,
                    module_name,
                    outcome=Outcome.ERRORED,
                    failure=from_exception(error),
                    started_at=started_at,
                    duration=time.monotonic() - started,
                )
            )
        for submodule in pkgutil.iter_modules(getattr(module, "__path__", ())):
            self.visit(app_label, f"{module_name}.{submodule.name}")

    def _classes_of(self, module: ModuleType, app_label: str) -> list[SmokeClass]:
        """Return the classes defined in the module, each once, in the order of definition."""
        classes: dict[type[SmokeTest], SmokeClass] = {}
        for name, value in list(vars(module).items()):
            # isinstance() would evaluate a lazy object
            if not issubclass(type(value), type) or not issubclass(value, SmokeTest):
                continue
            if value.__module__ != module.__name__ or value in classes:
                continue
            class_id = _class_id(value, module, name)
            if declarations := self._declarations_of(value, class_id, app_label):
                classes[value] = SmokeClass(
                    id=class_id, case=value, module=module, declarations=declarations
                )
        return list(classes.values())

    def _declarations_of(
        self, case: type[SmokeTest], class_id: str, app_label: str
    ) -> tuple[Declaration, ...]:
        loader = unittest.TestLoader()
        loader.testMethodPrefix = METHOD_PREFIX
        declared = (
            self._declare(case, method, f"{class_id}.{method}", app_label)
            for method in loader.getTestCaseNames(case)
        )
        return tuple(d for d in declared if d.is_selected_by(self._selection))

    def _declare(
        self, case: type[SmokeTest], method_name: str, test_id: str, app_label: str
    ) -> Declaration:
        method = getattr(case, method_name)
        overrides = getattr(method, OPTIONS_ATTRIBUTE, {})
        declared = {name: overrides.get(name, getattr(case, name)) for name in METHOD_OPTIONS}
        tags = {*getattr(case, "tags", ()), *getattr(method, "tags", ())}
        timeout, slow_after = declared["timeout"], declared["slow_after"]
        return Declaration(
            id=encodable(test_id),
            app=app_label,
            severity=Severity(declared["severity"]),
            timeout=self._timeout if timeout is None else timeout,
            slow_after=self._slow_after if slow_after is None else slow_after,
            every=declared["every"],
            maintainer=clean(declared["maintainer"], TEXT_LIMIT),
            runbook_url=encodable(declared["runbook_url"]),
            description=_first_paragraph(inspect.getdoc(method) or ""),
            tags=tuple(sorted(tags)),
            databases="__all__" if case.databases == "__all__" else tuple(sorted(case.databases)),
            read_only=case.read_only,
        )


def _class_id(case: type[SmokeTest], module: ModuleType, name_in_module: str) -> str:
    """Return ``module.Class``, with the class name under which the module stores the class.

    The ``__qualname__`` of classes created by a function or `type` may differ, and need not be
    unique.
    """
    is_stored_there = vars(module).get(case.__qualname__) is case
    return f"{case.__module__}.{case.__qualname__ if is_stored_there else name_in_module}"


def _first_paragraph(docstring: str) -> str:
    """Return the first paragraph on one line, truncated and encodable."""
    paragraph = docstring.strip().partition("\n\n")[0]
    return clean(" ".join(paragraph.split()), TEXT_LIMIT)
