"""The fault table as the documentation prints it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tests.faults.fault import VENDORS, Expected, Fault
from tests.faults.table import TABLE, THEMES

HEAD = ("operation", "guarantee", "SQLite", "PostgreSQL", "MariaDB")


def markdown(faults: Iterable[Fault] = TABLE) -> str:
    """A table in Markdown, a row a fault; ``-`` where a database does not know it."""
    lines = [HEAD, ("---",) * len(HEAD), *(tuple(_cells(fault)) for fault in faults)]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def sections(heading: str = "###") -> str:
    """The same, cut into a table for each theme, under a heading that says what it is about."""
    return "\n".join(
        f"{heading} {about.rstrip('.')}\n\n"
        + markdown(fault for fault in TABLE if fault.theme == theme)
        for theme, about in THEMES.items()
    )


def _cells(fault: Fault) -> Iterator[str]:
    yield fault.text
    yield fault.promise
    for vendor in VENDORS:
        yield _word(fault.expected.get(vendor))


def _word(expected: Expected | None) -> str:
    return "-" if expected is None else expected.word


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def summary() -> Sequence[tuple[str, int]]:
    """How many rows each database has, by the heads of their columns."""
    return [
        (head, sum(vendor in fault.expected for fault in TABLE))
        for head, vendor in zip(HEAD[2:], VENDORS, strict=True)
    ]
