"""Suggestions for unknown test names and tags."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.coordination.suggestions import COMPARED, LIMIT, find_unknown
from smoketest.results import Selection
from tests.builders import PROPERTY, make_declaration, selections

IDS = st.from_regex(r"[a-c_]{1,3}(\.[a-c_]{1,3}){0,3}", fullmatch=True)
TESTS = (
    make_declaration("polls.smoke.PollsTest.test_vote", tags=("db", "readiness")),
    make_declaration("polls.smoke.PollsTest.test_results", tags=("db",)),
    make_declaration("shop.smoke.orders.OrdersTest.test_order", tags=("mail",)),
)


def unknown(**selection: tuple[str, ...]) -> list[str]:
    return [str(one) for one in find_unknown(Selection(**selection), TESTS)]


@pytest.mark.parametrize(
    "name",
    [
        "polls",
        "polls.smoke",
        "polls.smoke.PollsTest",
        "polls.smoke.PollsTest.test_vote",
        "shop.smoke.orders",
    ],
)
def test_known_name(name: str) -> None:
    """Names of tests, classes, modules and packages are known."""
    assert unknown(names=(name,)) == []


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("polls.smoke.PollsTest.test_vot", "polls.smoke.PollsTest.test_vote"),
        ("polls.smoke.PolsTest", "polls.smoke.PollsTest"),
        ("poll", "polls"),
        ("shop.smoke.order", "shop.smoke.orders"),
        # The last parts of a name, as shown in reports and source files.
        ("test_vote", "polls.smoke.PollsTest.test_vote"),
        ("PollsTest", "polls.smoke.PollsTest"),
        ("PollsTest.test_results", "polls.smoke.PollsTest.test_results"),
        # The same, misspelled or in another module.
        ("OrderTest", "shop.smoke.orders.OrdersTest"),
        ("polls.tests.PollsTests.test_resuls", "polls.smoke.PollsTest.test_results"),
    ],
)
def test_unknown_name(name: str, suggested: str) -> None:
    """The most similar name is suggested first."""
    ((message),) = unknown(names=(name,))
    assert message.startswith(f"No smoke test is named {name}. Did you mean {suggested}")


def test_unknown_name__prefix_of_a_word() -> None:
    """Names match complete dotted parts: `a.b` does not match `a.bc`."""
    assert unknown(names=("polls.smoke.PollsTest.test_",)) != []


def test_unknown_name__nothing_similar() -> None:
    """If no name is similar, none is suggested."""
    assert unknown(names=("qqqqqq",)) == ["No smoke test is named qqqqqq."]


def test_unknown_tag() -> None:
    """The most similar tag is suggested."""
    assert unknown(tags=("readyness",)) == [
        "No smoke test has the tag readyness. Did you mean readiness?"
    ]


def test_unknown_tag__nothing_similar() -> None:
    """If no tag is similar, all tags are listed."""
    assert unknown(tags=("zzz",)) == [
        "No smoke test has the tag zzz. The tags are db, mail, readiness."
    ]


def test_unknown_tag__no_tags() -> None:
    (one,) = find_unknown(Selection(tags=("db",)), [make_declaration()])
    assert str(one) == "No smoke test has the tag db. No test has a tag."


def test_excluded_tag() -> None:
    """An unknown excluded tag is not an error, because scripts may serve several sites."""
    assert unknown(excluded_tags=("zzz",)) == []


def test_order_of_messages() -> None:
    """Unknown names are reported before unknown tags, each in the given order."""
    messages = unknown(names=("nothing", "polls", "shopp"), tags=("db", "dbb"))
    assert [message.partition(".")[0] for message in messages] == [
        "No smoke test is named nothing",
        "No smoke test is named shopp",
        "No smoke test has the tag dbb",
    ]


def test_limit_of_suggestions() -> None:
    """The number of suggestions is limited."""
    tests = [make_declaration(f"app{n}.smoke.T.test_it") for n in range(20)]
    for name in ("test_it", "app.smoke.T.test_it"):
        (one,) = find_unknown(Selection(names=(name,)), tests)
        assert one.hint.count("smoke") == LIMIT


def test_hints__only_for_the_first_names() -> None:
    """A request with many unknown names is answered at little cost."""
    found = find_unknown(Selection(names=tuple(f"poll{n}" for n in range(100))), TESTS)
    assert len(found) == 100
    assert [bool(one.hint) for one in found] == [True] * LIMIT + [False] * (100 - LIMIT)


def test_hints__compare_with_few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of comparisons does not grow with the number of tests."""
    compared: list[int] = []
    get_close_matches = difflib.get_close_matches

    def counting(word: str, known: list[str], *args: int) -> list[str]:
        compared.append(len(known))
        return get_close_matches(word, known, *args)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    tests = [make_declaration(f"app.smoke.Test{n}.test_it_{n}") for n in range(2000)]
    (one,) = find_unknown(Selection(names=("app.smoke.Test77x.test_it_1999",)), tests)
    assert "app.smoke.Test1999.test_it_1999" in one.hint
    assert compared
    assert max(compared) <= COMPARED


@PROPERTY
@given(selections(), st.lists(IDS, unique=True, max_size=5))
def test_any_names(selection: Selection, ids: list[str]) -> None:
    """Exactly the names and tags without a test are unknown."""
    tests = [make_declaration(test_id, tags=(test_id[:3],)) for test_id in ids]
    found = find_unknown(selection, tests)
    known_names = [
        name
        for name in selection.names
        if any(f"{test_id}.".startswith(f"{name}.") for test_id in ids)
    ]
    known_tags = [tag for tag in selection.tags if any(tag in test.tags for test in tests)]
    count = len(selection.names) + len(selection.tags)
    assert len(found) == count - len(known_names) - len(known_tags)
