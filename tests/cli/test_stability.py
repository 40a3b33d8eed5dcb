"""The stability check, with a clock that the tests advance."""

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
#: An attempt that returned no report.
NONE = NoAnswerError("It is being restarted.")


@dataclass
class FakeTime:
    """Replacement for the `time` module that only sleeps and requests advance."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        self.now += max(seconds, 1e-4)  # A real clock also advances between calls.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(stability, "time", clock)
    return clock


@dataclass
class FakeSite:
    """A site that takes `takes` seconds to answer and repeats its last answer."""

    clock: FakeTime
    answers: list[Answer | NoAnswerError]
    takes: float = 0.0
    allowed: list[float] = field(default_factory=list)

    def request(self, seconds: float) -> Answer:
        self.allowed.append(seconds)
        self.clock.now += self.takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NoAnswerError):
            raise answer
        return answer


Wait = Callable[..., tuple[Stability, list[Round], FakeSite]]


@pytest.fixture
def wait(clock: FakeTime) -> Wait:
    """Run the stability check on a site with these answers; return the result, rounds and site."""

    def wait(
        *answers: Answer | NoAnswerError,
        stable: float = 30,
        deadline: float = 300,
        takes: float = 0,
    ) -> tuple[Stability, list[Round], FakeSite]:
        site = FakeSite(clock, list(answers), takes)
        rounds: list[Round] = []
        result = until_stable(
            site.request, stable=stable, deadline=deadline, on_round=rounds.append
        )
        return result, rounds, site

    return wait


def test_healthy(wait: Wait, clock: FakeTime) -> None:
    """A site that passes is checked every 5 s until it has passed for the required time."""
    began = clock.now
    result, rounds, _ = wait(PASS)
    assert result == Stability(is_stable=True, answer=PASS)
    assert clock.now - began == 30
    assert [one.passing_for for one in rounds] == [0, 5, 10, 15, 20, 25, 30]


def test_becomes_healthy(wait: Wait, clock: FakeTime) -> None:
    """The required time starts at the first passing answer."""
    began = clock.now
    result, rounds, _ = wait(NONE, FAIL, PASS)
    assert result == Stability(is_stable=True, answer=PASS)
    assert clock.now - began == 40
    assert [one.answer for one in rounds[:3]] == [None, FAIL, PASS]
    assert rounds[0].problem == "It is being restarted."


@pytest.mark.parametrize("failure", [FAIL, NONE])
def test_failure_restarts_the_required_time(wait: Wait, failure: Answer | NoAnswerError) -> None:
    """A failing or missing answer restarts the required time."""
    result, rounds, _ = wait(PASS, PASS, PASS, failure, PASS)
    assert result.is_stable
    assert [one.passing_for for one in rounds] == [0, 5, 10, 0, 0, 5, 10, 15, 20, 25, 30]


def test_never_healthy(wait: Wait, clock: FakeTime) -> None:
    """The check ends when the deadline can no longer be met, and returns the latest answer."""
    began = clock.now
    result, rounds, _ = wait(FAIL)
    assert result == Stability(is_stable=False, answer=FAIL)
    assert 270 < clock.now - began <= 275
    assert all(one.passing_for == 0 for one in rounds)


def test_no_answer(wait: Wait) -> None:
    result, _, _ = wait(NONE)
    assert result == Stability(is_stable=False, answer=None)


def test_no_answer__after_an_answer(wait: Wait) -> None:
    """The latest available answer is returned."""
    result, _, _ = wait(PASS, FAIL, NONE)
    assert result == Stability(is_stable=False, answer=FAIL)


def test_deadline__met(wait: Wait, clock: FakeTime) -> None:
    """The latest time at which the site can become healthy in time."""
    began = clock.now
    result, _, _ = wait(*[FAIL] * 54, PASS)
    assert result.is_stable
    assert clock.now - began == 300


def test_deadline__missed(wait: Wait) -> None:
    result, _, _ = wait(*[FAIL] * 55, PASS)
    assert not result.is_stable


def test_single_answer_is_not_enough(wait: Wait) -> None:
    """At least two passing answers are required, however long one takes."""
    result, rounds, _ = wait(PASS, FAIL, stable=5, deadline=60, takes=10)
    assert rounds[0].passing_for == 0
    assert not result.is_stable
    result, rounds, _ = wait(PASS, stable=5, deadline=60, takes=10)
    assert result.is_stable
    assert len(rounds) == 2


def test_time_left_per_request(wait: Wait) -> None:
    """A request may take until the deadline."""
    _, _, site = wait(FAIL, takes=10)
    assert site.allowed[:3] == [300, 285, 270]
    assert min(site.allowed) > 0


def test_sleeps_no_longer_than_required(wait: Wait, clock: FakeTime) -> None:
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
def test_any_answers(
    answers: list[Answer | NoAnswerError], stable: float, factor: float, takes: float
) -> None:
    """A stable result requires `stable` seconds of passing answers, and the deadline is met."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = FakeTime()
        monkeypatch.setattr(stability, "time", clock)
        site = FakeSite(clock, answers, takes)
        rounds: list[tuple[float, bool]] = []
        result = until_stable(
            site.request,
            stable=stable,
            deadline=stable * factor,
            on_round=lambda one: rounds.append(
                (clock.now, one.answer is not None and one.answer.report.passed)
            ),
        )
    assert clock.now - 1000 <= stable * factor + takes + 1e-6
    if result.is_stable:
        last = rounds[-1][0]
        latest = [passed for timestamp, passed in rounds if timestamp >= last - stable - 1e-6]
        assert all(latest)
        assert [passed for _, passed in rounds[-2:]] == [True, True]
        assert result.answer is PASS
