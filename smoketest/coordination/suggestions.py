"""What may have been meant by the name of a test or a tag that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from smoketest.results import Declaration, Selection, is_dotted_prefix

NO_TESTS = (
    "This site has no smoke tests. Write one in the file smoke.py of an app of INSTALLED_APPS:"
    " a subclass of smoketest.SmokeTest with a method whose name begins with test_."
)

#: Names that one message suggests at most.
LIMIT = 3


class Unknown(NamedTuple):
    """A name or a tag that no test has."""

    problem: str
    hint: str

    def __str__(self) -> str:
        return f"{self.problem} {self.hint}".rstrip()


def find_unknown(selection: Selection, declarations: Iterable[Declaration]) -> list[Unknown]:
    """Each name and tag of the selection that no test has.

    An excluded tag that no test has excludes nothing, which is no fault.
    """
    declarations = tuple(declarations)
    ids = [declaration.id for declaration in declarations]
    tags = sorted({tag for declaration in declarations for tag in declaration.tags})
    names = [
        Unknown(f"No smoke test is named {name}.", _did_you_mean(_nearest_tests(name, ids)))
        for name in selection.names
        if not any(is_dotted_prefix(name, test_id) for test_id in ids)
    ]
    return names + [
        Unknown(
            f"No smoke test has the tag {tag}.",
            _did_you_mean(difflib.get_close_matches(tag, tags, LIMIT))
            or (f"There are {', '.join(tags)}." if tags else "There are no tags."),
        )
        for tag in selection.tags
        if tag not in tags
    ]


def _did_you_mean(names: list[str]) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else ""


def _nearest_tests(name: str, ids: Iterable[str]) -> list[str]:
    """Whatever may be named ends like this, or is spelt nearly so, in whole or at its end."""
    known = list(dict.fromkeys(prefix for test_id in ids for prefix in _prefixes(test_id)))
    if ends_so := [full for full in known if full.endswith(f".{name}")]:
        return ends_so[:LIMIT]
    if spelt_so := difflib.get_close_matches(name, known, LIMIT, cutoff=0.8):
        return spelt_so
    by_end = {full.rpartition(".")[2]: full for full in known}
    ends = difflib.get_close_matches(name.rpartition(".")[2], by_end, LIMIT)
    return [by_end[end] for end in ends]


def _prefixes(test_id: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``"""
    while test_id:
        yield test_id
        test_id = test_id.rpartition(".")[0]
