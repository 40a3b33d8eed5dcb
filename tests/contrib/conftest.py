"""The built-in checks of the essentials, run in the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from smoketest.results import Report, Selection
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.services import load_site
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import options
from tests.contrib.essentials_site import PREFIX, Run

APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.staticfiles", "smoketest", "smoketest.contrib.essentials",
]  # fmt: skip
TEMPLATES = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "OPTIONS": {
        "context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
        ]
    },
}

Essentials = Callable[..., Run]


def _unload_smoke_modules() -> None:
    """Unload the smoke modules, which read settings when they are imported."""
    for name in list(sys.modules):
        if name.startswith(PREFIX):
            del sys.modules[name]


@pytest.fixture
def essentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Essentials]:
    """Run tests of the app in this process: ``essentials("caches", CACHES=...)``."""
    monkeypatch.setattr("smoketest.contrib.essentials.apps.STARTED_AT", float("-inf"))

    def run_with(*names: str, timeout: float = 10, **settings: Any) -> Run:
        _unload_smoke_modules()
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        defaults = {"INSTALLED_APPS": APPS, "SMOKETEST_STATE_DIR": state, "TEMPLATES": [TEMPLATES]}
        with override_settings(**{**defaults, **settings}):
            selection = Selection(names=tuple(f"{PREFIX}.{name}" for name in names))
            chosen = options(timeout=timeout, load_site=load_site)
            suite = find(selection, chosen)
            assert not suite.collection_errors, suite.collection_errors
            report = run(
                suite, selection, chosen, abandoned=LocallyAbandoned(),
                carried={}, failfast=False,
            )  # fmt: skip
        return _summary(report)

    yield run_with
    _unload_smoke_modules()


def _summary(report: Report) -> Run:
    results = {result.id.removeprefix(f"{PREFIX}."): result for result in report.results}
    return Run(
        status=str(report.status),
        seconds=report.duration,
        outcomes={name: str(result.outcome) for name, result in results.items()},
        messages={name: result.message for name, result in results.items()},
    )
