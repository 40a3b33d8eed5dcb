"""A site for tests of `manage.py smoketest`, which runs in the test process or as a subprocess."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import IMPORTS
from tests.servers.processes import is_alive, wait_for
from tests.servers.site import ROOT, clean_environment

PASSES = """
class T(SmokeTest):
    def test_it(self):
        pass
"""
FAILS = PASSES.replace("pass", "self.fail('x')")

Run = Callable[..., tuple[int, str, str]]


def counting(tmp_path: Path, *, options: str = "") -> str:
    """Return a smoke module whose test appends to a file each time it runs."""
    return f"""
class T(SmokeTest):
    {options or "pass"}
    def test_it(self):
        with open({str(tmp_path / "ran")!r}, "a") as file:
            file.write("x")
"""


SETTINGS = """
SECRET_KEY = "not-secret"
USE_TZ = True
INSTALLED_APPS = ["smoketest", "shop"]
ROOT_URLCONF = "urls"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{folder}/db"}}}}
SMOKETEST_STATE_DIR = "{folder}/state"
SMOKETEST_RUN_ON_SCRAPE = False
SMOKETEST_RUN_TIMEOUT = 300
"""
#: Hangs long enough that a test which waits for it fails.
HANGS = """
class T(SmokeTest):
    timeout = 60
    def test_it(self):
        print("hanging", flush=True)
        time.sleep(60)
"""


class Process:
    """A running `manage.py smoketest`."""

    def __init__(
        self, folder: Path, number: int, arguments: tuple[str, ...], environment: dict[str, str]
    ) -> None:
        self.output, self.errors = folder / f"stdout-{number}", folder / f"stderr-{number}"
        with self.output.open("wb") as stdout, self.errors.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "django", "smoketest", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )

    @property
    def stdout(self) -> str:
        return self.output.read_text()

    @property
    def stderr(self) -> str:
        return self.errors.read_text()

    def wait_for(self, pattern: str, *, count: int = 1) -> None:
        """Wait until stdout and stderr match the pattern `count` times."""

        def look() -> str:
            text = f"{self.stdout}\n{self.stderr}"
            if self.popen.poll() is not None:
                raise AssertionError(f"ended with {self.popen.returncode}\n{text}")
            return text

        wait_for(
            look,
            lambda text: len(re.findall(pattern, text)) >= count,
            what=pattern,
        )

    def end(self, number: int) -> int:
        """Send a signal and return the exit code; fail if a process of the group survives.

        The limit of 30 s is far below the 60 s of `HANGS` and enough for a slow machine.
        """
        self.popen.send_signal(number)
        code = self.popen.wait(30)
        left = subprocess.run(
            ["ps", "-o", "pid=", "-g", str(self.popen.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
        assert [pid for pid in left if is_alive(int(pid))] == []
        return code

    def wait(self) -> int:
        """Wait for the process to exit and return the exit code."""
        return self.popen.wait(60)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Site:
    """A site in a folder: settings, URLs and an app with a smoke module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        (folder / "shop").mkdir()
        (folder / "shop" / "__init__.py").touch()
        (folder / "settings.py").write_text(SETTINGS.format(folder=folder))
        (folder / "urls.py").write_text(
            "from django.urls import include, path\n"
            "urlpatterns = [path('smoketest/', include('smoketest.urls'))]\n"
        )

    def smoke(self, source: str, **settings: Any) -> None:
        """Write the smoke module and append settings."""
        lines = [line for line in IMPORTS.splitlines() if "tests." not in line]
        (self.folder / "shop" / "smoke.py").write_text("\n".join(lines) + textwrap.dedent(source))
        with (self.folder / "settings.py").open("a") as file:
            file.writelines(f"{name} = {value!r}\n" for name, value in settings.items())

    def environment(self) -> dict[str, str]:
        """Return the environment variables of its processes."""
        return clean_environment() | {
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))),
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start the command."""
        variables = self.environment() | environment
        process = Process(self.folder, len(self.processes), arguments, variables)
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command to completion and return its exit code, output and errors."""
        process = self.start(*arguments)
        code = process.wait()
        return code, process.stdout, process.stderr
