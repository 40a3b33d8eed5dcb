"""Tests of `smoketest.results.Selection`."""

from __future__ import annotations

import pytest

from smoketest.results import Selection, is_dotted_prefix

TEST = "polls.smoke.PollsTest.test_vote"


def test_selection__default() -> None:
    """Without filters, all tests are selected."""
    assert Selection().is_everything
    assert Selection().matches(TEST, ())
    assert Selection().matches(TEST, {"db"})


@pytest.mark.parametrize(
    "selection",
    [Selection(names=("polls",)), Selection(tags=("db",)), Selection(excluded_tags=("slow",))],
    ids=str,
)
def test_selection__filtered(selection: Selection) -> None:
    """Each kind of filter makes a selection incomplete."""
    assert not selection.is_everything


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("polls", True),
        ("polls.smoke", True),
        ("polls.smoke.PollsTest", True),
        (TEST, True),
        ("poll", False),
        ("polls.smoke.Polls", False),
        (f"{TEST}_twice", False),
        (f"{TEST}.", False),
        ("smoke", False),
        ("POLLS", False),
    ],
)
def test_names__prefix(name: str, expected: bool) -> None:
    """A name selects the object with this dotted path and all objects below it."""
    assert Selection(names=(name,)).matches(TEST, ()) is expected
    assert is_dotted_prefix(name, TEST) is expected


def test_names__several() -> None:
    """A test needs to match only one of the names."""
    assert Selection(names=("blog", "polls")).matches(TEST, ())
    assert not Selection(names=("blog", "shop")).matches(TEST, ())


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((), False),
        (("slow",), False),
        (("db",), True),
        (("db", "slow"), True),
        (("readiness",), True),
    ],
)
def test_tags__any(tags: tuple[str, ...], expected: bool) -> None:
    """A test needs only one of the tags."""
    assert Selection(tags=("db", "readiness")).matches(TEST, tags) is expected


@pytest.mark.parametrize(
    ("tags", "expected"), [((), True), (("db",), True), (("slow",), False), (("db", "slow"), False)]
)
def test_excluded_tags__take_precedence(tags: tuple[str, ...], expected: bool) -> None:
    """A test with an excluded tag is never selected."""
    assert Selection(excluded_tags=("slow",)).matches(TEST, tags) is expected
    assert not Selection(names=(TEST,), tags=("db",), excluded_tags=("db",)).matches(TEST, ("db",))


def test_names_and_tags__combined() -> None:
    """A test must match both the names and the tags."""
    selection = Selection(names=("polls",), tags=("db",))
    assert selection.matches(TEST, ("db",))
    assert not selection.matches(TEST, ())
    assert not selection.matches("blog.smoke.BlogTest.test_post", ("db",))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "every test"),
        (Selection(names=("polls.smoke",)), "test polls.smoke"),
        (
            Selection(names=("polls.smoke", "blog"), tags=("db",), excluded_tags=("slow",)),
            "test polls.smoke, test blog, tag db, without tag slow",
        ),
    ],
)
def test_str(selection: Selection, expected: str) -> None:
    """The string representation describes the filters for messages."""
    assert str(selection) == expected


@pytest.mark.parametrize(
    ("ran", "requested", "covers"),
    [
        (Selection(), Selection(), True),
        (Selection(), Selection(tags=("db",)), True),
        (Selection(tags=("db",)), Selection(tags=("db",)), True),
        (Selection(tags=("db",)), Selection(), False),
        (Selection(tags=("db",)), Selection(names=("polls",)), False),
    ],
)
def test_covers(ran: Selection, requested: Selection, covers: bool) -> None:
    """A run covers its own selection; a full run covers any selection."""
    assert ran.covers(requested) is covers
