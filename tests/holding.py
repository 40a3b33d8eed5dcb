"""Other processes of the site, which hold something of its state until they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from smoketest.store.directory import StateFolder

#: Coverage is not measured where a process is killed: its file would be left half written.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    "PYTHONPATH": os.pathsep.join(sys.path),
}


@contextmanager
def holder(program: str, folder: StateFolder, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the program, which has said that it holds what it is to hold."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder.path), *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
