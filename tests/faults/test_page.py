"""The fault table reads well, and is as wide as it is meant to be."""

from __future__ import annotations

import pytest

from tests.faults import page
from tests.faults.fault import Fault
from tests.faults.table import TABLE

each = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.id)


@each
def test_row__says_what_happens_and_what_is_promised(fault: Fault) -> None:
    """In whole sentences; and it applies to a database."""
    for sentence in (fault.text, fault.promise):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    assert fault.expected


def test_table__has_each_fault_once() -> None:
    """No two rows have the same name or say the same."""
    assert len({fault.id for fault in TABLE}) == len(TABLE)
    assert len({fault.text for fault in TABLE}) == len(TABLE)


def test_sections__have_all_rows_under_their_themes() -> None:
    """Nothing is lost where the table is cut into several."""
    lines = page.sections().splitlines()
    assert sum(line.startswith("### ") for line in lines) == len({f.theme for f in TABLE})
    assert set(page.markdown().splitlines()) <= set(lines)


def test_page__has_a_line_for_each_row() -> None:
    """Each line has all columns, and a dash where a database does not know the fault."""
    head, _, *lines = page.markdown().splitlines()
    assert len(lines) == len(TABLE)
    assert {line.replace("\\|", "").count("|") for line in lines} == {head.count("|")}
    dashes = sum(line.count(" - ") for line in lines)
    assert dashes == 3 * len(TABLE) - sum(count for _, count in page.summary())
