"""Suggest tests and tags for names that match none."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from heapq import nlargest
from itertools import islice, takewhile
from typing import NamedTuple

from smoketest.results import Declaration, Selection
from smoketest.validators import did_you_mean, suggest

NO_TESTS = (
    "This site has no smoke tests. Create a smoke.py module in an installed app, with a subclass of"
    " smoketest.SmokeTest that has a method whose name starts with test_."
)

#: Maximum number of names that a hint suggests, and of names that get a hint.
LIMIT = 3
#: Maximum number of names that an unknown name is compared with. A comparison takes tens of
#: microseconds, and clients without access may send names.
COMPARED = 50


class Unknown(NamedTuple):
    """A name or a tag that no test has."""

    problem: str
    hint: str

    def __str__(self) -> str:
        return f"{self.problem} {self.hint}".rstrip()


def find_unknown(selection: Selection, declarations: Iterable[Declaration]) -> list[Unknown]:
    """Return the names and tags of the selection that match no test.

    Only the first ones have hints. Unknown excluded tags are not an error and are left out.
    """
    declarations = tuple(declarations)
    known = {name for declared in declarations for name in _prefixes(declared.id)}
    tags = {tag for declared in declarations for tag in declared.tags}
    names = [name for name in selection.names if name not in known]
    near = _Names(known if names else ())
    unknown = [
        Unknown(
            f"No smoke test is named {name}.",
            suggest(near.similar_to(name)) if number < LIMIT else "",
        )
        for number, name in enumerate(names)
    ]
    for tag in selection.tags:
        if tag not in tags:
            hint = _hint_for_tag(tag, sorted(tags)) if len(unknown) < LIMIT else ""
            unknown.append(Unknown(f"No smoke test has the tag {tag}.", hint))
    return unknown


def _hint_for_tag(tag: str, tags: list[str]) -> str:
    if not tags:
        return "No test has a tag."
    return did_you_mean(tag, tags[:COMPARED], LIMIT) or f"The tags are {', '.join(tags)}."


class _Names:
    """The names of tests, classes, modules and packages."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        #: Last parts of names by the rest of the name.
        self._members: dict[str, list[str]] = defaultdict(list)
        #: Names by their last part.
        self._by_last_part: dict[str, list[str]] = defaultdict(list)
        for name in sorted(known):
            parent, _, last = name.rpartition(".")
            self._members[parent].append(last)
            self._by_last_part[last].append(name)

    def similar_to(self, unknown: str) -> list[str]:
        """Return names that end with the unknown name or are spelled like it."""
        last = unknown.rpartition(".")[2]
        with_suffix = (n for n in self._by_last_part.get(last, ()) if n.endswith(f".{unknown}"))
        if found := list(islice(with_suffix, LIMIT)):
            return found
        return self._with_misspelled_part(unknown) or self._with_last_part_like(last)

    def _with_misspelled_part(self, unknown: str) -> list[str]:
        """Return ``a.b.c`` for ``a.bb.c``."""
        parts = unknown.split(".")
        depth = 0
        while ".".join(parts[: depth + 1]) in self._known:
            depth += 1
        close = _close_matches(parts[depth], self._members.get(".".join(parts[:depth]), ()))
        names = (".".join([*parts[:depth], part, *parts[depth + 1 :]]) for part in close)
        return [name for name in names if name in self._known]

    def _with_last_part_like(self, last: str) -> list[str]:
        close = _close_matches(last, self._by_last_part)
        return [name for part in close for name in self._by_last_part[part]][:LIMIT]


def _close_matches(part: str, known: Iterable[str]) -> list[str]:
    """Compare only with the parts that have the longest beginning in common."""

    def likeness(other: str) -> tuple[int, int]:
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(part, other, strict=False))
        )
        return same, -abs(len(part) - len(other))

    return difflib.get_close_matches(part, nlargest(COMPARED, known, likeness), LIMIT)


def _prefixes(test_id: str) -> Iterator[str]:
    """Yield ``a.b.c``, ``a.b`` and ``a``."""
    while test_id:
        yield test_id
        test_id = test_id.rpartition(".")[0]
