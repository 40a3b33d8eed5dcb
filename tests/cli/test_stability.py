"""The gate of a deployment, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.cli import stability
from smoketest.cli.stability import NoAnswerError, Round, Stability, until_stable
from smoketest.coordination.coordinator import Answer
from smoketest.results import Outcome
from tests.builders import PROPERTY, make_report, make_result

PASS = Answer(report=make_report(make_result()), age=0.0)
FAIL = Answer(report=make_report(make_result(Outcome.FAILED)), age=0.0)
#: In place of an answer.
NONE = NoAnswerError("It is being restarted.")


@dataclass
class Clock:
    """Stands still, but for sleeps and answers."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        self.now += max(seconds, 1e-4)  # as a real one moves on, whatever happens


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stability, "time", clock)
    return clock


@dataclass
class Site:
    """Answers after `takes` seconds with the next of the answers, the last one for ever."""

    clock: Clock
    answers: list[Answer | NoAnswerError]
    takes: float = 0.0
    allowed: list[float] = field(default_factory=list)

    def ask(self, seconds: float) -> Answer:
        self.allowed.append(seconds)
        self.clock.now += self.takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NoAnswerError):
            raise answer
        return answer


Wait = Callable[..., tuple[Stability, list[Round], Site]]


@pytest.fixture
def wait(clock: Clock) -> Wait:
    """Wait at the gate of a site with these answers: the result, what was told, the site."""

    def wait(
        *answers: Answer | NoAnswerError,
        stable: float = 30,
        deadline: float = 300,
        takes: float = 0,
    ) -> tuple[Stability, list[Round], Site]:
        site = Site(clock, list(answers), takes)
        told: list[Round] = []
        result = until_stable(site.ask, stable=stable, deadline=deadline, on_round=told.append)
        return result, told, site

    return wait


def test_healthy(wait: Wait, clock: Clock) -> None:
    """It opens when all has passed for as long as was asked, and asks every few seconds."""
    began = clock.now
    result, told, _ = wait(PASS)
    assert result == Stability(is_stable=True, answer=PASS)
    assert clock.now - began == 30
    assert [one.passing_for for one in told] == [0, 5, 10, 15, 20, 25, 30]


def test_becomes_healthy(wait: Wait, clock: Clock) -> None:
    """The time counts from the first answer that passed."""
    began = clock.now
    result, told, _ = wait(NONE, FAIL, PASS)
    assert result == Stability(is_stable=True, answer=PASS)
    assert clock.now - began == 40
    assert [one.answer for one in told[:3]] == [None, FAIL, PASS]
    assert told[0].problem == "It is being restarted."


@pytest.mark.parametrize("blip", [FAIL, NONE])
def test_blip(wait: Wait, blip: Answer | NoAnswerError) -> None:
    """One answer that does not pass, or does not come, and the time begins anew."""
    result, told, _ = wait(PASS, PASS, PASS, blip, PASS)
    assert result.is_stable
    assert [one.passing_for for one in told] == [0, 5, 10, 0, 0, 5, 10, 15, 20, 25, 30]


def test_never_healthy(wait: Wait, clock: Clock) -> None:
    """It gives up as soon as the deadline cannot be kept any more, and shows the latest answer."""
    began = clock.now
    result, told, _ = wait(FAIL)
    assert result == Stability(is_stable=False, answer=FAIL)
    assert 270 < clock.now - began <= 275
    assert all(one.passing_for == 0 for one in told)


def test_no_answer_at_all(wait: Wait) -> None:
    result, _, _ = wait(NONE)
    assert result == Stability(is_stable=False, answer=None)


def test_no_answer_at_the_end(wait: Wait) -> None:
    """The latest answer that there was."""
    result, _, _ = wait(PASS, FAIL, NONE)
    assert result == Stability(is_stable=False, answer=FAIL)


def test_just_in_time(wait: Wait, clock: Clock) -> None:
    """As late as it can be."""
    began = clock.now
    result, _, _ = wait(*[FAIL] * 54, PASS)
    assert result.is_stable
    assert clock.now - began == 300


def test_too_late(wait: Wait) -> None:
    result, _, _ = wait(*[FAIL] * 55, PASS)
    assert not result.is_stable


def test_a_single_answer_is_not_enough(wait: Wait) -> None:
    """It tells of a moment, however long it took."""
    result, told, _ = wait(PASS, FAIL, stable=5, deadline=60, takes=10)
    assert told[0].passing_for == 0
    assert not result.is_stable
    result, told, _ = wait(PASS, stable=5, deadline=60, takes=10)
    assert result.is_stable
    assert len(told) == 2


def test_time_that_is_left(wait: Wait) -> None:
    """An answer may take as long as there is time; each round has less of it."""
    _, _, site = wait(FAIL, takes=10)
    assert site.allowed[:3] == [300, 285, 270]
    assert min(site.allowed) > 0


def test_does_not_sleep_longer_than_it_must(wait: Wait, clock: Clock) -> None:
    """A short time is kept."""
    result, _, _ = wait(PASS, stable=0.5, deadline=10)
    assert result.is_stable
    assert clock.sleeps == [0.5]


@PROPERTY
@given(
    st.lists(st.sampled_from([PASS, FAIL, NONE]), min_size=1, max_size=30),
    st.floats(0.1, 100),
    st.floats(1.01, 10),
    st.floats(0, 10),
)
def test_any_site(
    answers: list[Answer | NoAnswerError], stable: float, factor: float, takes: float
) -> None:
    """It opens only after `stable` seconds of answers that all passed, and ends in time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock()
        monkeypatch.setattr(stability, "time", clock)
        site = Site(clock, answers, takes)
        told: list[tuple[float, bool]] = []
        result = until_stable(
            site.ask,
            stable=stable,
            deadline=stable * factor,
            on_round=lambda one: told.append(
                (clock.now, one.answer is not None and one.answer.report.passed)
            ),
        )
    assert clock.now - 1000 <= stable * factor + takes + 1e-6
    if result.is_stable:
        last = told[-1][0]
        latest = [passed for moment, passed in told if moment >= last - stable - 1e-6]
        assert all(latest)
        assert [passed for _, passed in told[-2:]] == [True, True]
        assert result.answer is PASS
