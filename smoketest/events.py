"""What happens on the way to an answer, for those who watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smoketest.results import Result


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another run goes on; its report, or a run after it, will be the answer."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins."""

    #: All tests that it knows of, in their order.
    test_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A test of the run begins."""

    test_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A test of the run has its result."""

    result: Result


Event = Waiting | Started | Running | Finished

#: Is told of events, from whichever thread; it must neither raise nor wait.
Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """The listener where no one watches."""
