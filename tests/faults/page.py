"""Markdown of the fault table in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tests.faults.fault import VENDORS, Expected, Fault
from tests.faults.table import TABLE, THEMES

HEAD = ("operation", "guarantee", "SQLite", "PostgreSQL", "MariaDB")


def markdown(faults: Iterable[Fault] = TABLE) -> str:
    """Return a Markdown table of faults, with ``-`` if one does not apply to a database."""
    lines = [HEAD, ("---",) * len(HEAD), *(tuple(_cells(fault)) for fault in faults)]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def sections(heading: str = "###") -> str:
    """Return a table for each theme, with a heading."""
    return "\n".join(
        f"{heading} {about.rstrip('.')}\n\n"
        + markdown(fault for fault in TABLE if fault.theme == theme)
        for theme, about in THEMES.items()
    )


def _cells(fault: Fault) -> Iterator[str]:
    yield fault.text
    yield fault.guarantee
    for vendor in VENDORS:
        yield _word(fault.expected.get(vendor))


def _word(expected: Expected | None) -> str:
    if expected is None:
        return "-"
    return (
        f"{expected.word}; in WAL mode: {expected.in_wal.word}"
        if expected.in_wal
        else expected.word
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def summary() -> Sequence[tuple[str, int]]:
    """Return the number of rows for each database, by column name."""
    return [
        (head, sum(vendor in fault.expected for fault in TABLE))
        for head, vendor in zip(HEAD[2:], VENDORS, strict=True)
    ]
