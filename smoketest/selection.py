"""Which smoke tests a run is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A filter over test ids and tags; the default selects everything.

    A test is selected if it matches one of the names (when there are any), carries one of the
    tags (when there are any) and none of the excluded tags.
    """

    #: Dotted prefixes of test ids: a test, a class, a module or a package.
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    excluded_tags: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        return not (self.names or self.tags or self.excluded_tags)

    def matches(self, test_id: str, tags: Collection[str]) -> bool:
        if self.names and not any(is_dotted_prefix(name, test_id) for name in self.names):
            return False
        if self.tags and not any(tag in tags for tag in self.tags):
            return False
        return not any(tag in tags for tag in self.excluded_tags)

    def covers(self, other: Selection) -> bool:
        """Whether it surely selects all that the other does."""
        return self.is_everything or self == other

    def parameters(self) -> list[tuple[str, str]]:
        """As the endpoint takes them in a query."""
        return [
            *(("test", name) for name in self.names),
            *(("tag", tag) for tag in self.tags),
            *(("exclude_tag", tag) for tag in self.excluded_tags),
        ]

    def __str__(self) -> str:
        """How a message names the selection: ``test polls.smoke, tag db, without tag slow``."""
        parts = [
            *(f"test {name}" for name in self.names),
            *(f"tag {tag}" for tag in self.tags),
            *(f"without tag {tag}" for tag in self.excluded_tags),
        ]
        return ", ".join(parts) or "every test"


def is_dotted_prefix(prefix: str, dotted_name: str) -> bool:
    """Whether the name is the prefix or lies below it: ``a.b`` of ``a.b.c``, not of ``a.bc``."""
    return dotted_name == prefix or dotted_name.startswith(f"{prefix}.")
