"""Fixtures that write temporary apps with smoke modules and run them."""

from __future__ import annotations

import importlib
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client, override_settings

from smoketest.results import Report, Result, Selection
from smoketest.runner.loader import find
from smoketest.runner.options import RunOptions
from smoketest.runner.supervisor import run
from smoketest.signals import run_finished
from smoketest.store.abandoned import LocallyAbandoned

EVERYTHING = Selection()

# Shells start background jobs with SIGINT ignored, which subprocesses of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: The imports at the top of smoke modules that the tests write.
IMPORTS = """\
import time
import unittest
from django.core.cache import cache
from django.db import connection, connections, models, transaction
from smoketest import SmokeTest, options, tag
from tests.ledger.models import Account, Entry
"""


@dataclass
class Apps:
    """Write Django apps to a directory of the import path, and install them."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def add(
        self, smoke: str | None = None, *, name: str = "", files: Mapping[str, str] = {}
    ) -> str:
        """Write an app whose ``smoke.py`` starts with `IMPORTS`, and return its name.

        `files` are additional files, by their paths.
        """
        name = name or f"app{len(self.names)}"
        sources = {"__init__.py": "", **files}
        if smoke is not None:
            sources["smoke.py"] = IMPORTS + dedent(smoke)
        for path, source in sources.items():
            target = self.folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source)
        importlib.invalidate_caches()
        self.names.append(name)
        return name

    def installed(self, *entries: str) -> override_settings:
        """Return a context in which the site has these apps, or `entries` in INSTALLED_APPS."""
        installed = ["smoketest", "tests.ledger", *(entries or self.names)]
        return override_settings(INSTALLED_APPS=installed)


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    """Apps that are removed after the test. Install them with `installed`, or use `run_smoke`."""
    folder = tmp_path / "apps"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Apps(folder)
    for module in set(sys.modules) - before:
        if module.partition(".")[0].startswith("app"):
            del sys.modules[module]


def options(**changes: object) -> RunOptions:
    defaults: dict[str, object] = {
        "skip_apps": (),
        "timeout": 60.0,  # long enough for tests that must pass on a slow machine
        "slow_after": 1.0,
        "run_timeout": 240.0,
        "lock_timeout": 0.5,
        "workers": 2,
    }
    return RunOptions(**defaults | changes)  # type: ignore[arg-type]


def outcomes(report: Report) -> dict[str, str]:
    """Return the outcome of each test by method name, in the order of the report."""
    return {result.id.rpartition(".")[2]: str(result.outcome) for result in report.results}


def result_of(report: Report, name: str) -> Result:
    """Return the only result whose id ends with the name."""
    (result,) = (r for r in report.results if f".{r.id}".endswith(f".{name}"))
    return result


RunSmoke = Callable[..., Report]


@pytest.fixture
def run_smoke(apps: Apps) -> RunSmoke:
    """Write a smoke module and run it: ``run_smoke(source, workers=0)``."""

    def run_source(
        smoke: str, selection: Selection = EVERYTHING, *, failfast: bool = False, **changes: object
    ) -> Report:
        apps.add(smoke)
        with apps.installed():
            suite = find(selection, options(**changes))
            return run(
                suite,
                selection,
                options(**changes),
                abandoned=LocallyAbandoned(),
                carried={},
                failfast=failfast,
            )

    return run_source


Site = Callable[..., Client]


@pytest.fixture
def site(apps: Apps, tmp_path: Path) -> Iterator[Site]:
    """Return a client for a site with this smoke module and its own results store."""
    overrides = []

    def make(smoke: str | None, **settings: Any) -> Client:
        apps.add(smoke)
        override = override_settings(
            INSTALLED_APPS=["smoketest", "tests.ledger", *apps.names],
            SMOKETEST_STATE_DIR=str(tmp_path / "state"),
            **settings,
        )
        override.enable()
        overrides.append(override)
        return Client(raise_request_exception=False)

    yield make
    for override in reversed(overrides):
        override.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests that use fixtures of a module in one process, which sets them up once."""
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("xdist_group"):
            definitions = chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())
            if any(d.scope == "module" and d.baseid.startswith("tests/") for d in definitions):
                item.add_marker(pytest.mark.xdist_group(item.module.__name__))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each reason for skipping, such as a missing server, with the files it affects."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        skipped[reason].append(report.nodeid.partition("::")[0])
    for reason, files in sorted(skipped.items()):
        tests = "1 test" if len(files) == 1 else f"{len(files)} tests"
        terminalreporter.write_line(f"Skipped {tests} in {', '.join(sorted(set(files)))}: {reason}")


@contextmanager
def connecting_receiver() -> Iterator[list[BaseDatabaseWrapper]]:
    """Connect a receiver of `run_finished` that opens connections, and yield these."""
    opened: list[BaseDatabaseWrapper] = []

    def receive(**_: object) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        opened.append(connections["default"])

    run_finished.connect(receive)
    try:
        yield opened
    finally:
        run_finished.disconnect(receive)
