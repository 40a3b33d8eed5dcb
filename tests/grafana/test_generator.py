"""The generator makes what is committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafana.generator import __main__ as generator
from tests.grafana.model import FOLDER


@pytest.mark.parametrize("name", generator.DASHBOARDS)
def test_dashboard__generating_again_changes_nothing(name: str) -> None:
    """The committed file is what the code makes, byte for byte."""
    made = generator.render(generator.DASHBOARDS[name]().build())
    assert (FOLDER / name).read_text() == made, "out of date: python -m grafana.generator"


def test_dashboards__are_all_made_by_the_code() -> None:
    """No file in the folder is made by hand."""
    assert {path.name for path in FOLDER.iterdir()} == set(generator.DASHBOARDS)


def test_write__writes_all(tmp_path: Path) -> None:
    """The command writes every dashboard."""
    generator.write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }
