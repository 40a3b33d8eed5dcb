"""A real Celery worker and a real beat."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.servers.processes import Server


class Celery(Server):
    """A process of ``celery -A app``, in the folder where the app is."""

    #: What it writes when it is ready.
    ready_line: str

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        super().__init__()
        self.app = app
        self.arguments = arguments
        self._where = folder

    def command(self) -> list[str]:
        """The worker or beat, with a quick end."""
        return [sys.executable, "-m", "celery", "-A", self.app, self.name, *self.arguments]

    def environment(self) -> dict[str, str]:
        """The app and this package can be imported."""
        environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        root = str(Path(__file__).parents[2])
        return environment | {"PYTHONPATH": os.pathsep.join([str(self._where), root])}

    def is_ready(self) -> bool:
        """Whether it says so; of an earlier start that does not count."""
        return self.ready_line in self.log[self._read :]

    def start(self) -> None:
        """Start, and remember what is in the log of earlier starts."""
        self._read = len(self.log)
        super().start()


class Worker(Celery):
    """``celery worker``, with one child unless the arguments say otherwise."""

    name = "worker"
    ready_line = " ready."

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        defaults = ("--loglevel", "INFO", "--concurrency", "1", "--without-gossip")
        super().__init__(app, folder, *defaults, *arguments)


class Beat(Celery):
    """``celery beat``, which looks at its schedule once a second."""

    name = "beat"
    ready_line = "beat: Starting..."

    def __init__(self, app: str, folder: Path, *arguments: str) -> None:
        super().__init__(app, folder, "--loglevel", "INFO", "--max-interval", "1", *arguments)

    def command(self) -> list[str]:
        """It keeps its schedule in its own folder."""
        return [*super().command(), "--schedule", str(self.folder / "schedule")]
