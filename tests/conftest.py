"""Apps with smoke modules, written for a single test and gone after it."""

from __future__ import annotations

import importlib
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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

# A shell lets its background jobs ignore Ctrl-C, and the processes of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: What nearly every smoke module of the tests begins with.
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
    """Writes Django apps to a folder of the import path, and installs them."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def add(
        self, smoke: str | None = None, *, name: str = "", files: Mapping[str, str] = {}
    ) -> str:
        """Install an app whose ``smoke.py`` begins with `IMPORTS`; returns its name.

        `files` are others of its files, taken as they are.
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
        """In its context the site has these apps; `entries` stand in for their names."""
        installed = ["smoketest", "tests.ledger", *(entries or self.names)]
        return override_settings(INSTALLED_APPS=installed)


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    """Apps that exist for this test alone; install them with `installed`, or use `run_smoke`."""
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
    """What came of each test, by the name of its method; in the order of the report."""
    return {result.id.rpartition(".")[2]: str(result.outcome) for result in report.results}


def result_of(report: Report, name: str) -> Result:
    """The one result whose id ends with the name."""
    (result,) = (r for r in report.results if f".{r.id}".endswith(f".{name}"))
    return result


RunSmoke = Callable[..., Report]


@pytest.fixture
def run_smoke(apps: Apps) -> RunSmoke:
    """Write a smoke module, and run it as the site does: ``run_smoke(source, workers=0)``."""

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
    """A client of a site with this smoke module, and its own results store."""
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each reason of skips, such as a missing server, and what it skipped."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        skipped[reason].append(report.nodeid.partition("::")[0])
    for reason, files in sorted(skipped.items()):
        tests = "1 test" if len(files) == 1 else f"{len(files)} tests"
        terminalreporter.write_line(f"Skipped {tests} in {', '.join(sorted(set(files)))}: {reason}")


@contextmanager
def connecting_receiver() -> Iterator[list[BaseDatabaseWrapper]]:
    """While the body lasts, a receiver of `run_finished` opens a connection; gives those."""
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
