"""The soak test of `benchmarks/` runs and detects growth."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soak import Reading, growth

pytestmark = pytest.mark.e2e

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"

FLAT = Reading(
    runs=100, seconds=1.0, threads=1, server_connections=0, private_connections=0, files=6,
    memory=60.0, store=1.0,
)  # fmt: skip


def test_soak__no_growth() -> None:
    """A short soak test with injected faults detects no growth."""
    done = subprocess.run(
        [sys.executable, str(SOAK), "--runs", "30"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| 3")]
    assert len(rows) == 2, done.stdout  # 3 and 30
    assert done.stdout.endswith("Flat.\n")


@pytest.mark.parametrize(
    "name", ["threads", "server_connections", "private_connections", "files", "memory", "store"]
)
def test_soak__reports_growth(name: str) -> None:
    """One more thread or file counts as growth; memory may grow a little per 1,000 runs."""
    by = 10.0 if name in {"memory", "store"} else 1
    later = replace(FLAT, runs=10_000, **{name: getattr(FLAT, name) + by})
    (reported,) = growth([FLAT, replace(FLAT, runs=1000), later])
    assert reported.startswith(name.replace("_", " "))
    assert not list(growth([FLAT, replace(FLAT, runs=10_000, memory=FLAT.memory + 8)]))
