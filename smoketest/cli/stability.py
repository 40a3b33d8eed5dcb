"""Stability check: run the tests until all critical tests have passed for some time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from smoketest.coordination.coordinator import Answer

#: Seconds between two rounds.
INTERVAL = 5.0


class NoAnswerError(Exception):
    """No result is available now, but a retry may help; the message includes the reason."""

    def __init__(self, message: str, *, is_timeout: bool = False) -> None:
        super().__init__(message)
        #: Whether the reason is a timeout.
        self.is_timeout = is_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The result of one attempt."""

    #: None if no result was available; `problem` is the reason.
    answer: Answer | None
    problem: str = ""
    #: Seconds since the first of the consecutive rounds that passed.
    passing_for: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """The result of a stability check."""

    is_stable: bool
    #: The latest answer; None if there was none.
    answer: Answer | None


def until_stable(
    ask: Callable[[float], Answer],
    *,
    stable: float,
    deadline: float,
    on_round: Callable[[Round], None],
    interval: float = INTERVAL,
) -> Stability:
    """Call `ask` until all answers of the last `stable` seconds have passed.

    Stop early if that can no longer happen before the deadline. All times are in seconds, and
    `deadline` counts from now. `ask` receives the remaining seconds and may raise `NoAnswerError`.
    `on_round` is called after each round.
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
            passing_since = now  # the duration of the run itself does not count
        passing_for = 0.0 if passing_since is None else now - passing_since
        on_round(Round(answer=answer, problem=problem, passing_for=passing_for))
        if passing_since is not None and passing_for >= stable:
            return Stability(is_stable=True, answer=latest)
        remaining = stable - passing_for
        if remaining > ends_at - now:
            return Stability(is_stable=False, answer=latest)
        time.sleep(min(interval, remaining))


def _attempt(ask: Callable[[float], Answer], seconds: float) -> tuple[Answer | None, str]:
    try:
        return ask(seconds), ""
    except NoAnswerError as error:
        return None, str(error)
