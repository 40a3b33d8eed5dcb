"""Committed dashboards are the output of the generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafana.generator import __main__ as generator
from tests.grafana.model import FOLDER


@pytest.mark.parametrize("name", generator.DASHBOARDS)
def test_dashboard__generating_again_changes_nothing(name: str) -> None:
    """The committed file equals the generated one."""
    made = generator.render(generator.DASHBOARDS[name]().build())
    assert (FOLDER / name).read_text() == made, "out of date: python -m grafana.generator"


def test_dashboards__are_all_generated() -> None:
    """The folder only has generated files."""
    assert {path.name for path in FOLDER.iterdir()} == set(generator.DASHBOARDS)


def test_write__writes_all(tmp_path: Path) -> None:
    """The command writes every dashboard."""
    generator.write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }
