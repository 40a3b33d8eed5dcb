"""Celery worker and beat processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.servers.processes import Server


class Celery(Server):
    """Process of ``celery -A app``, in the folder that contains the app."""

    #: Log message that the process writes when it is ready.
    ready_line: str

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        super().__init__()
        self.app = app
        self.arguments = arguments
        self._where = folder

    def command(self) -> list[str]:
        """Return the command line of a worker or beat that stops quickly."""
        return [sys.executable, "-m", "celery", "-A", self.app, self.name, *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return an environment in which the app and this package can be imported."""
        environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        root = str(Path(__file__).parents[2])
        return environment | {"PYTHONPATH": os.pathsep.join([str(self._where), root])}

    def is_ready(self) -> bool:
        """Return whether the process has logged that it is ready, ignoring earlier starts."""
        return self.ready_line in self.log[self._read :]

    def start(self) -> None:
        """Start, and remember the length of the log of earlier starts."""
        self._read = len(self.log)
        super().start()


class Worker(Celery):
    """``celery worker``, by default with one child process."""

    name = "worker"
    ready_line = " ready."

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        defaults = ("--loglevel", "INFO", "--concurrency", "1", "--without-gossip")
        super().__init__(app, folder, *defaults, *arguments)


class Beat(Celery):
    """``celery beat``, which checks its schedule every second."""

    name = "beat"
    ready_line = "beat: Starting..."

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        super().__init__(app, folder, "--loglevel", "INFO", "--max-interval", "1", *arguments)

    def command(self) -> list[str]:
        """Return a command that keeps the schedule file in the server's folder."""
        return [*super().command(), "--schedule", str(self.folder / "schedule")]
