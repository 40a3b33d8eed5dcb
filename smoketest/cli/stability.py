"""The gate of a deployment: ask again and again, until all has been well for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from smoketest.coordination.coordinator import Answer

#: Seconds between two rounds.
PAUSE = 5.0


class NoAnswerError(Exception):
    """There is no result for now; the message says why. Another attempt may get one."""

    def __init__(self, message: str, *, is_timeout: bool = False) -> None:
        super().__init__(message)
        #: Whether the time was too short.
        self.is_timeout = is_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one attempt came to."""

    #: None if there was none, for the reason that `problem` tells.
    answer: Answer | None
    problem: str = ""
    #: Seconds since the first of the latest answers that all passed.
    passing_for: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How it ended."""

    is_stable: bool
    #: The latest one, if there was any.
    answer: Answer | None


def until_stable(
    ask: Callable[[float], Answer],
    *,
    stable: float,
    deadline: float,
    tell: Callable[[Round], None],
    pause: float = PAUSE,
) -> Verdict:
    """Ask until every answer of `stable` seconds has passed, or that cannot come any more.

    `ask` is given how many seconds it may take, and may raise `NoAnswerError`; `tell` hears of
    every round. Times are in seconds; `deadline` counts from now.
    """
    ends_at = time.monotonic() + deadline
    passing_since: float | None = None
    latest: Answer | None = None
    while True:
        began_at = time.monotonic()
        answer, problem = _attempt(ask, ends_at - began_at)
        latest = answer or latest
        now = time.monotonic()
        if answer is None or not answer.report.passed:
            passing_since = None
        elif passing_since is None:
            passing_since = now  # one answer tells of a moment, however long it took
        passing_for = 0.0 if passing_since is None else now - passing_since
        tell(Round(answer=answer, problem=problem, passing_for=passing_for))
        if passing_since is not None and passing_for >= stable:
            return Verdict(is_stable=True, answer=latest)
        missing = stable - passing_for
        if missing > ends_at - now:
            return Verdict(is_stable=False, answer=latest)
        time.sleep(min(pause, missing))


def _attempt(ask: Callable[[float], Answer], seconds: float) -> tuple[Answer | None, str]:
    try:
        return ask(seconds), ""
    except NoAnswerError as error:
        return None, str(error)
