"""A site created by ``django-admin startproject``, with the essentials, run in other processes."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.management import call_command

from tests.servers.site import clean_environment

PREFIX = "smoketest.contrib.essentials.smoke"
ROOT = Path(__file__).resolve().parents[2]

#: PyMySQL stands in for mysqlclient, which needs a compiler.
_SETTINGS = """
try:
    import MySQLdb
except ImportError:
    try:
        import pymysql
    except ImportError:
        pass
    else:
        pymysql.install_as_MySQLdb()
INSTALLED_APPS += ["smoketest", "smoketest.contrib.essentials"]
DEBUG = False
ALLOWED_HOSTS = ["www.example.com"]
SMOKETEST_STATE_DIR = BASE_DIR
SMOKETEST_RUN_TIMEOUT = 120  # long enough for a slow machine
"""

#: Runs the tests that its arguments name and prints the report as JSON, without the management
#: command.
_RUN = """
import json, sys, warnings
import django
django.setup()
warnings.simplefilter("error")
from smoketest.runner import supervisor
from smoketest.runner.loader import find
from smoketest.store.abandoned import LocallyAbandoned
from smoketest.services import run_options
from smoketest.results import Selection
from smoketest.contrib.essentials import apps
apps.STARTED_AT = float("-inf")
selection = Selection(names=tuple(sys.argv[1:]))
suite = find(selection, run_options())
report = supervisor.run(
    suite, selection, run_options(), abandoned=LocallyAbandoned(), carried={}, failfast=False
)
keys = ("id", "outcome", "message")
rows = [{key: str(getattr(result, key)) for key in keys} for result in report.results]
print(json.dumps({"status": report.status, "seconds": report.duration, "results": rows}))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Results of a run, by test id relative to the app."""

    status: str
    seconds: float
    outcomes: dict[str, str]
    messages: dict[str, str]


@dataclass
class Site:
    """A site in its own directory; `settings` are lines appended to its settings file."""

    folder: Path
    settings: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        call_command("startproject", "site_of_test", str(self.folder), verbosity=0)
        self._original = self._file.read_text()
        self.configure(self.settings)

    def copy(self, folder: Path) -> Site:
        """Return a copy of the site, with its files and database."""
        shutil.copytree(self.folder, folder)
        site = copy.copy(self)
        site.folder = folder
        return site

    def configure(self, settings: str) -> None:
        """Reset the settings to those of startproject, and append these lines."""
        self._file.write_text(f"{self._original}{_SETTINGS}{settings}")

    def python(self, *arguments: str) -> str:
        """Run Python in the environment of the site and return its output; warnings are errors."""
        paths = [str(self.folder), str(ROOT)]
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", *arguments],
            env={
                **clean_environment(),
                "DJANGO_SETTINGS_MODULE": "site_of_test.settings",
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONDONTWRITEBYTECODE": "1",  # it may be stale within a second
                **self.environment,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run a command of ``manage.py``."""
        return self.python(str(self.folder / "manage.py"), *arguments)

    def run(self, *names: str) -> Run:
        """Run the tests whose ids, relative to the smoke package, start with these names."""
        return self.run_ids(*([f"{PREFIX}.{name}" for name in names] or [PREFIX]))

    def run_ids(self, *selected: str) -> Run:
        """Run the tests of any app with these ids, or all tests of the site."""
        report: dict[str, Any] = json.loads(self.python("-c", _RUN, *selected))
        rows = report["results"]
        return Run(
            status=report["status"],
            seconds=report["seconds"],
            outcomes={row["id"].removeprefix(f"{PREFIX}."): row["outcome"] for row in rows},
            messages={row["id"].removeprefix(f"{PREFIX}."): row["message"] for row in rows},
        )

    @property
    def _file(self) -> Path:
        return self.folder / "site_of_test" / "settings.py"


def only(run: Run) -> tuple[str, str]:
    """Return the outcome and message of the only test."""
    (name,) = run.outcomes
    return run.outcomes[name], run.messages[name]
