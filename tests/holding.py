"""Subprocesses that hold shared state of the site until they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from smoketest.store.directory import StateFolder

#: Coverage is not measured in processes that are killed: their data files would be incomplete.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    "PYTHONPATH": os.pathsep.join(sys.path),
}


@contextmanager
def holder(program: str, folder: StateFolder, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program until it prints "held", and kill it at the end of the context."""
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
