"""Consistency of the fault table and its Markdown."""

from __future__ import annotations

import pytest

from tests.faults import page
from tests.faults.fault import Fault
from tests.faults.table import TABLE

each = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.id)


@each
def test_row__texts(fault: Fault) -> None:
    """Both texts are sentences, and the fault applies to at least one database."""
    for sentence in (fault.text, fault.guarantee):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    assert fault.expected


def test_table__unique_rows() -> None:
    """Ids and descriptions are unique."""
    assert len({fault.id for fault in TABLE}) == len(TABLE)
    assert len({fault.text for fault in TABLE}) == len(TABLE)


def test_sections__contain_all_rows() -> None:
    """No row is lost when the table is split by theme."""
    lines = page.sections().splitlines()
    assert sum(line.startswith("### ") for line in lines) == len({f.theme for f in TABLE})
    assert set(page.markdown().splitlines()) <= set(lines)


def test_markdown__one_line_per_row() -> None:
    """Each row has all columns, with a dash if the fault does not apply to a database."""
    head, _, *lines = page.markdown().splitlines()
    assert len(lines) == len(TABLE)
    assert {line.replace("\\|", "").count("|") for line in lines} == {head.count("|")}
    dashes = sum(line.count(" - ") for line in lines)
    assert dashes == 3 * len(TABLE) - sum(count for _, count in page.summary())
