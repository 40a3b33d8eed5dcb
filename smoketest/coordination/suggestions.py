"""Suggest tests and tags for names that match none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from smoketest.results import Declaration, Selection, is_dotted_prefix
from smoketest.validators import did_you_mean, suggest

NO_TESTS = (
    "This site has no smoke tests. Create a smoke.py module in an installed app, with a subclass of"
    " smoketest.SmokeTest that has a method whose name starts with test_."
)

#: Maximum number of names that a message suggests.
LIMIT = 3


class Unknown(NamedTuple):
    """A name or a tag that no test has."""

    problem: str
    hint: str

    def __str__(self) -> str:
        return f"{self.problem} {self.hint}".rstrip()


def find_unknown(selection: Selection, declarations: Iterable[Declaration]) -> list[Unknown]:
    """Return the names and tags of the selection that match no test.

    Unknown excluded tags are not an error and are left out.
    """
    declarations = tuple(declarations)
    ids = [declaration.id for declaration in declarations]
    tags = sorted({tag for declaration in declarations for tag in declaration.tags})
    names = [
        Unknown(f"No smoke test is named {name}.", suggest(_nearest_tests(name, ids)))
        for name in selection.names
        if not any(is_dotted_prefix(name, test_id) for test_id in ids)
    ]
    return names + [
        Unknown(
            f"No smoke test has the tag {tag}.",
            did_you_mean(tag, tags, LIMIT)
            or (f"The tags are {', '.join(tags)}." if tags else "No test has a tag."),
        )
        for tag in selection.tags
        if tag not in tags
    ]


def _nearest_tests(name: str, ids: Iterable[str]) -> list[str]:
    """Return names that end with `name` or are spelled like it, as a whole or in the last part."""
    known = list(dict.fromkeys(prefix for test_id in ids for prefix in _prefixes(test_id)))
    if with_suffix := [full for full in known if full.endswith(f".{name}")]:
        return with_suffix[:LIMIT]
    if similar := difflib.get_close_matches(name, known, LIMIT, cutoff=0.8):
        return similar
    by_last_part = {full.rpartition(".")[2]: full for full in known}
    close = difflib.get_close_matches(name.rpartition(".")[2], by_last_part, LIMIT)
    return [by_last_part[part] for part in close]


def _prefixes(test_id: str) -> Iterator[str]:
    """Yield ``a.b.c``, ``a.b`` and ``a``."""
    while test_id:
        yield test_id
        test_id = test_id.rpartition(".")[0]
