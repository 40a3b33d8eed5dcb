"""The pages for people: what they say, and that nothing in them is but what we wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest.formats.html import (
    LONGEST_QUERY,
    STRIP_LENGTH,
    Details,
    Links,
    Overview,
    PageContext,
    ago,
    names_within,
    render_details,
    render_overview,
    render_problem,
    seconds,
    with_newer_results,
)
from smoketest.results import (
    MAX_NAMES,
    Outcome,
    Report,
    Result,
    ResultFilter,
    Selection,
    Severity,
    StopReason,
)
from smoketest.store import KnownTest, PastResult, Pause
from tests.builders import (
    NOW,
    PROPERTY,
    make_collection_error,
    make_declaration,
    make_known_test,
    make_report,
    make_result,
    reports,
    results,
    texts,
)

FRAME = PageContext(
    links=Links(
        index="/smoketest/",
        assets={"page_css": "/a/page.css", "page_js": "/a/page.js", "fail_svg": "/a/fail.svg"},
    ),
    now=NOW + 7325,
    csrf_token="token-of-the-form",
)
A = "polls.smoke.PollsTest.test_a"
B = "polls.smoke.PollsTest.test_b"


class Page(HTMLParser):
    """A page, taken apart."""

    #: Elements that have no end.
    VOID = frozenset({"meta", "link", "input"})
    #: Elements whose words stand apart from the next.
    APART = frozenset({"dt", "dd", "th", "td", "summary", "option"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in self.APART:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def having(self, attribute: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if attribute in attributes]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for attributes in self.having(attribute)]


def overview(*tests: Result, report: Mapping[str, Any] = {}, **fields: Any) -> Page:
    made = make_report(*tests, **report) if tests else None
    defaults: dict[str, Any] = {"selection": Selection(), "report": made}
    return Page(render_overview(Overview(**defaults | fields), FRAME))


def failing(test_id: str = A, **fields: Any) -> Result:
    return make_result(
        Outcome.FAILED, make_declaration(test_id, **fields), message="2 votes are lost"
    )


def known(result: Result, **fields: Any) -> dict[str, KnownTest]:
    return {result.id: make_known_test(result, **fields)}


@pytest.mark.parametrize(
    ("tests", "verdict", "title"),
    [
        ([make_result()], "PASS", "PASS · Smoke tests"),
        ([make_result(), failing()], "FAIL", "FAIL: 1 of 2 · Smoke tests"),
        ([failing(severity=Severity.WARNING)], "PASS with warnings", "PASS with warnings ·"),
        ([make_result(Outcome.SKIPPED)], "PASS", "PASS · Smoke tests"),
        ([make_result(Outcome.NOT_RUN)], "FAIL", "FAIL · Smoke tests"),
        ([], "NO RESULT", "NO RESULT · Smoke tests"),
    ],
)
def test_verdict(tests: list[Result], verdict: str, title: str) -> None:
    """The status in words, at the top and in the title of the tab."""
    page = overview(*tests)
    assert f" {verdict} " in page.text.partition("Smoke tests Smoke tests")[2][:40]
    assert page.text.startswith(title)


def test_summary() -> None:
    """How many fail since when, of how many, how old that is and how long it took."""
    old = make_result(Outcome.ERRORED, make_declaration(B))
    page = overview(
        failing(),
        old,
        make_result(),
        report={"release": "7.1"},
        known=known(failing(), failing_since=NOW) | known(old, failing_since=NOW - 86400 * 3),
    )
    assert "2 of 3 tests failing since 2026-01-29 12:00:00 UTC (3 days ago)" in page.text
    assert "1 passed 1 failed 1 errored" in page.text
    assert "Last run 2 h 2 min ago, took 0.5 s, release 7.1." in page.text


def test_summary__warnings_alone() -> None:
    """Warnings do not hide that all that is critical passes."""
    warning = failing(severity=Severity.WARNING)
    page = overview(warning, known=known(warning, failing_since=NOW))
    assert "1 warning since 2026-02-01 12:00:00 UTC (2 h 2 min ago); all critical" in page.text


@pytest.mark.parametrize(
    ("stop_reason", "words"),
    [(StopReason.DEADLINE, "reached its deadline"), (StopReason.FAIL_FAST, "at the first failure")],
)
def test_summary__cut_short(stop_reason: StopReason, words: str) -> None:
    """A run that was cut short says so."""
    assert words in overview(make_result(Outcome.NOT_RUN), report={"stop_reason": stop_reason}).text


def test_failing_test() -> None:
    """All that the person on call needs, failing tests first."""
    result = make_result(
        Outcome.TIMED_OUT,
        make_declaration(
            A,
            maintainer="votes",
            description="A vote is counted.",
            runbook_url="https://wiki.example/votes",
            timeout=5.0,
            slow_after=0.5,
        ),
        message="it took longer than 5 s",
        duration=5.01,
        traceback="Traceback: here",
        exception="VoteError",
    )
    page = overview(
        make_result(declaration=make_declaration(B)),
        result,
        known=known(
            result, failing_since=NOW - 60, last_success_at=NOW - 120, consecutive_failures=2
        ),
        recent={A: [Outcome.PASSED, Outcome.TIMED_OUT, Outcome.TIMED_OUT]},
        with_tracebacks=True,
    )
    assert page.text.index("PollsTest.test_a") < page.text.index("PollsTest.test_b")
    for words in (
        "timed out PollsTest.test_a polls.smoke it took longer than 5 s",
        "Failing since 2026-02-01 11:59:00 UTC (2 h 3 min ago, 2 runs)",
        "Last success 2026-02-01 11:58:00 UTC",
        "Duration 5 s (slow threshold 0.5 s, timeout 5 s)",
        "Severity critical Maintainer votes",
        "A vote is counted.",
        "Traceback (VoteError) Traceback: here",
    ):
        assert words in page.text
    assert "https://wiki.example/votes" in page.values("href")
    assert f"/smoketest/test/{A}/" in page.values("href")
    assert "Last 3 runs: 1 passed, 2 timed out" in page.values("aria-label")


def test_failing_test__without_traceback() -> None:
    """Who may not see tracebacks sees the message."""
    result = make_result(Outcome.FAILED, message="lost", traceback="secret/path.py")
    page = overview(result)
    assert "lost" in page.text
    assert "secret/path.py" not in page.text


def test_failing_tests__order() -> None:
    """Critical ones first, and of those what began to fail first: it may be the cause."""
    names = ["test_warning", "test_late", "test_early"]
    tests = [
        make_result(
            Outcome.FAILED,
            make_declaration(
                f"polls.smoke.T.{name}",
                severity=Severity.WARNING if name == "test_warning" else Severity.CRITICAL,
            ),
        )
        for name in names
    ]
    since = dict(zip(names, [NOW - 9, NOW - 1, NOW - 5], strict=True))
    known_tests = {
        test.id: make_known_test(test, failing_since=since[test.id.rpartition(".")[2]])
        for test in tests
    }
    page = overview(*tests, known=known_tests)
    shown = [value.rpartition(".")[2] for value in page.values("data-test")]
    assert shown == ["test_early", "test_late", "test_warning"]


def test_long_message() -> None:
    """Its beginning is shown, and all of it at a click."""
    result = make_result(Outcome.FAILED, message="x" * 601 + "end")
    page = overview(result)
    assert "x" * 600 + "…" in page.text
    assert "x" * 601 + "end" in page.text


def test_collection_error() -> None:
    """A module that cannot be imported is named, without the limits of a test."""
    page = overview(make_collection_error(message="No module named 'lib'"))
    assert "errored blog.smoke No module named 'lib'" in page.text
    assert "slow threshold" not in page.text


def test_others_by_app() -> None:
    """What does not fail is grouped by app; slow ones are marked, skipped ones say why."""
    page = overview(
        make_result(declaration=make_declaration(B, app="polls"), duration=1.0),
        make_result(Outcome.SKIPPED, make_declaration(A, app="blog"), message="not here"),
    )
    assert re.search(r"All tests blog 1 skipped .*not here.*polls 1 passed .*slow", page.text)


def test_nothing_stored() -> None:
    """Says what to do."""
    assert "No result is stored. Run the tests to see one." in overview().text
    page = overview(selection=Selection(names=("polls",)))
    assert "No result is stored for test polls." in page.text


def test_error() -> None:
    """Says why nothing can be shown."""
    assert "NO RESULT The disk is full" in overview(error="The disk is full").text


def test_paused() -> None:
    """Until when and why, how it ends, and no button that would run anything."""
    page = overview(make_result(), failing(B), pause=Pause(until=NOW + 8000, reason="migration"))
    assert "Paused until 2026-02-01 14:13:20 UTC (migration)" in page.text
    assert "manage.py smoketest --resume" in page.text
    assert [tag for tag, _ in page.elements if tag == "button"] == ["button"]  # of the filter


def test_fresh_url() -> None:
    """A browser that runs no scripts is led on; one that does is told to ask for a run."""
    page = overview(make_result(), fresh_url="?max_age=5&x=<")
    assert page.values("http-equiv") == ["refresh"]
    assert "0; url=?max_age=5&x=<" in page.values("content")
    assert page.having("data-stale")
    fresh = overview(make_result())
    assert not fresh.values("http-equiv")
    assert not fresh.having("data-stale")


def test_buttons() -> None:
    """All that is selected, what fails, and each test can be run again by a form of its own."""
    selection = Selection(names=("polls",), tags=("db",), excluded_tags=("slow",))
    page = overview(failing(A), make_result(declaration=make_declaration(B)), selection=selection)
    sent = [
        (fields["name"], fields["value"])
        for tag, fields in page.elements
        if fields.get("name") in {"test", "tag", "exclude_tag", "csrfmiddlewaretoken"}
        and tag != "select"
    ]
    token = ("csrfmiddlewaretoken", "token-of-the-form")
    assert sent == [
        *[token, ("test", "polls"), ("exclude_tag", "slow"), ("tag", "db")],
        *[token, ("test", A), token],
        *[("test", "polls"), ("exclude_tag", "slow")],
        *[("test", A), ("test", B)],
    ]
    assert "Selection: test polls, tag db, without tag slow." in page.text


@pytest.mark.parametrize(
    ("shown", "visible"),
    [
        (ResultFilter(), [A, B]),
        (ResultFilter(text="TEST_B"), [B]),
        (ResultFilter(app="blog"), [B]),
        (ResultFilter(outcome="problem"), [A]),
        (ResultFilter(outcome="failed"), [A]),
        (ResultFilter(outcome="passed"), [B]),
        (ResultFilter(outcome="errored"), []),
        (ResultFilter(text="test_b", app="polls"), []),
    ],
)
def test_filter(shown: ResultFilter, visible: list[str]) -> None:
    """What is filtered out is hidden, not gone: a script can show it again."""
    passing = make_result(declaration=make_declaration(B, app="blog"))
    page = overview(failing(), passing, shown=shown)
    rows = page.having("data-test")
    assert [row["data-test"] for row in rows if "hidden" not in row] == visible
    assert len(rows) == 2
    assert f"{len(visible)} of 2 tests shown" in page.text
    assert "1 of 2 tests failing" in page.text, "a filter does not change the status"


def test_filter__choices() -> None:
    """The apps and tags of all known tests, and what is chosen."""
    other = make_result(declaration=make_declaration(B, app="blog", tags=("slow",)))
    page = overview(
        make_result(declaration=make_declaration(A, tags=("db",))),
        known=known(other),
        selection=Selection(tags=("db",)),
        shown=ResultFilter(app="polls", outcome="failed", text='"q'),
    )
    assert re.search(r"App all blog polls Tag all db slow", page.text)
    assert len(page.having("selected")) == 3
    assert '"q' in page.values("value")


def test_newer_results() -> None:
    """A test that ran again since the run shows how it is now; an older result does not."""
    report = make_report(failing(A), failing(B))
    newer = make_result(declaration=make_declaration(A), started_at=NOW + 60)
    older = make_result(declaration=make_declaration(B), started_at=NOW - 60)
    merged = with_newer_results(report, known(newer) | known(older))
    assert merged.results == (newer, failing(B))
    page = Page(render_overview(Overview(selection=Selection(), report=merged), FRAME))
    assert "1 test has run again since then." in page.text


def test_strip() -> None:
    """A bar for each of the latest runs, the latest at the right end."""
    recent = {A: [Outcome.PASSED] * 40 + [Outcome.FAILED] * 2 + [Outcome.SKIPPED]}
    page = overview(failing(), recent=recent)
    (label,) = (value for value in page.values("aria-label") if value.startswith("Last"))
    assert label == f"Last {STRIP_LENGTH} runs: 27 passed, 2 failed, 1 skipped"
    bars = {fields["class"]: fields["d"] for tag, fields in page.elements if tag == "path"}
    assert bars == {"passed": "M0 9h54", "problem": "M54 6h4", "skipped": "M58 11h2"}


def test_strip__few_runs() -> None:
    """The latest run is at the right end also where there were few: strips can be compared."""
    page = overview(failing(), recent={A: [Outcome.PASSED, Outcome.FAILED]})
    bars = {fields["class"]: fields["d"] for tag, fields in page.elements if tag == "path"}
    assert bars == {"passed": "M56 9h2", "problem": "M58 6h2"}


def details(result: Result, **fields: Any) -> Page:
    known_fields = {"failing_since": NOW, "consecutive_failures": 3} if result.is_problem else {}
    test = make_known_test(result, **known_fields)
    return Page(render_details(Details(test=test, **fields), FRAME))


def test_details() -> None:
    """What the test declares, why it fails and what came of it before."""
    result = make_result(
        Outcome.FAILED,
        make_declaration(
            A,
            every=3600.0,
            tags=("db", "slow"),
            databases=("default",),
            read_only=True,
            maintainer="votes",
            runbook_url="https://wiki.example/votes",
            description="A vote is counted.",
        ),
        message="lost " * 200,
        traceback="in full",
    )
    past = [
        PastResult(outcome=Outcome.FAILED, started_at=NOW, duration=0.2),
        PastResult(outcome=Outcome.PASSED, started_at=NOW - 60, duration=61.0),
    ]
    page = details(
        result, past=past, last_failure=result, source="polls/smoke.py:7", with_tracebacks=True
    )
    assert page.text.startswith("FAILED: PollsTest.test_a · Smoke tests")
    for words in (
        "Failing since 2026-02-01 12:00:00 UTC (2 h 2 min ago, 3 runs)",
        "Last run 2 h 2 min ago, took 0.25 s.",
        "Failure details " + "lost " * 199,
        "in full",
        "Source polls/smoke.py:7",
        "Maintainer votes Runbook https://wiki.example/votes Tags db, slow",
        "Timeout 10 s Slow threshold 1 s Runs every 1 h 0 min Databases default (read-only)",
        "passed 2026-02-01 11:59:00 UTC 2 h 3 min ago 1 min",
    ):
        assert words in page.text
    (run,) = (form for form in page.having("data-stream") if form["method"] == "post")
    assert run["action"] == f"/smoketest/test/{A}/"
    assert [value["value"] for value in page.having("name") if value["name"] == "test"] == [A]


def test_details__passes_again() -> None:
    """The last failure is told of as what it is: past."""
    failure = failing()
    page = details(make_result(declaration=failure.declaration), last_failure=failure)
    assert page.text.startswith("PASSED: PollsTest.test_a")
    assert "Last failure, 2026-02-01 12:00:00 UTC (2 h 2 min ago) 2 votes are lost" in page.text
    assert "Failure details" not in page.text


def test_details__skipped() -> None:
    """Why it was, and when."""
    page = details(make_result(Outcome.SKIPPED, message="no volume"))
    assert page.text.startswith("SKIPPED: PollsTest.test_vote")
    assert "Skipped 2 h 2 min ago." in page.text
    assert "no volume" in page.text


def test_details__for_visitors() -> None:
    """Neither traceback nor source without the right to see them."""
    result = make_result(Outcome.FAILED, traceback="in full")
    page = details(result, last_failure=result, source="polls/smoke.py:7")
    assert "in full" not in page.text
    assert "polls/smoke.py:7" not in page.text


def test_details__paused() -> None:
    """Nothing that would run it."""
    page = details(make_result(), pause=Pause(until=NOW, reason="migration"))
    assert "(migration)" in page.text
    assert "button" not in {tag for tag, _ in page.elements}


def test_problem() -> None:
    """Says what to do, and leads back."""
    page = Page(render_problem(404, "There is no test <b>.", FRAME))
    assert "No report There is no test <b>." in page.text
    assert page.values("href").count("/smoketest/") == 2


@pytest.mark.parametrize(
    ("url", "is_link"),
    [
        ("https://wiki.example/", True),
        ("http://wiki/", True),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)", False),
        ("data:text/html,x", False),
        ("//wiki.example/", False),
        ("wiki/votes", False),
        ("https:", False),
        ("https://[", False),
    ],
)
def test_runbook(url: str, is_link: bool) -> None:
    """Only an address of the web becomes a link; anything else is shown as text."""
    for page in (
        overview(failing(runbook_url=url)),
        details(failing(runbook_url=url), last_failure=failing(runbook_url=url)),
    ):
        assert (url in page.values("href")) is is_link
        assert is_link or url in page.text


#: What our templates hold; a test or a user can add nothing.
ELEMENTS = set(
    re.findall(
        r"\w+",
        """
        html head meta title link script noscript body header main section div form input button h1
        h2 h3 p a span strong details summary search label select option article dl dt dd time ul li
        svg path pre code progress table thead tbody tr th td
        """,
    )
)


def assert_is_ours(page: Page) -> None:
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    names = {name for _, attributes in page.elements for name in attributes}
    assert not any(name.startswith("on") or name in {"style", "srcdoc"} for name in names)
    scripts = [fields for tag, fields in page.elements if tag == "script"]
    assert scripts == [{"type": "module", "src": "/a/page.js"}]
    assert all(re.match(r"(/|https?://|$)", href) for href in page.values("href"))
    assert set(page.values("action")) <= {"/smoketest/"} | {
        action for action in page.values("action") if action.startswith("/smoketest/test/")
    }


@PROPERTY
@given(report=reports(), text=texts(), with_tracebacks=st.booleans())
def test_overview__any_report(report: Report, text: str, with_tracebacks: bool) -> None:
    """Whatever tests and users write is text, never markup; and every result is there."""
    made = Overview(
        selection=Selection(names=(text,), tags=(text,)),
        shown=ResultFilter(text=text, app=text),
        report=report,
        known={result.id: make_known_test(result) for result in report.results},
        pause=Pause(until=NOW, reason=text),
        error=text,
        fresh_url=text,
        with_tracebacks=with_tracebacks,
    )
    page = Page(render_overview(made, FRAME))
    assert_is_ours(page)
    assert len(page.having("data-test")) == len(report.results)


@PROPERTY
@given(result=results(), text=texts())
def test_details__any_result(result: Result, text: str) -> None:
    """The same for the page of one test."""
    page = details(result, last_failure=result, source=text, with_tracebacks=True)
    assert_is_ours(page)


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_escaped(attack: str) -> None:
    """In each place where somebody else's words stand."""
    result = make_result(
        Outcome.FAILED,
        make_declaration(
            f"polls.{attack}", app=attack, maintainer=attack, description=attack, tags=(attack,),
            runbook_url=f"https://x/{attack}",
        ),
        message=attack, exception=attack, traceback=attack,
    )  # fmt: skip
    sources = [
        render_overview(
            Overview(
                selection=Selection(names=(attack,)),
                report=make_report(result, release=attack),
                shown=ResultFilter(text=attack, app=attack),
                with_tracebacks=True,
            ),
            FRAME,
        ),
        render_details(
            Details(
                test=make_known_test(result),
                last_failure=result,
                source=attack,
                with_tracebacks=True,
            ),
            FRAME,
        ),
        render_problem(404, attack, FRAME),
    ]
    for source in sources:
        assert attack not in source
        assert_is_ours(Page(source))


def test_surrogates() -> None:
    """An id that UTF-8 cannot encode has a page, and the page can be sent."""
    source = render_overview(
        Overview(selection=Selection(), report=make_report(failing("polls.\udcff.test_a"))), FRAME
    )
    assert "/smoketest/test/polls.%3F.test_a/" in source
    source.encode()


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.0994, "99 ms"),
        (0.1, "0.1 s"),
        (0.314, "0.31 s"),
        (5, "5 s"),
        (59.6, "60 s"),
        (61, "1 min"),
        (7325, "2 h 2 min"),
        (90000, "25 h 0 min"),
        (172800, "2 days"),
    ],
)
def test_seconds(duration: float, words: str) -> None:
    """Two digits say enough."""
    assert seconds(duration) == words


def test_ago() -> None:
    """What is less than a second old is just now."""
    assert [ago(0), ago(0.9), ago(1), ago(90)] == ["just now", "just now", "1 s ago", "1 min ago"]


def test_names_within() -> None:
    """As narrow as an address may be long: tests, classes, modules, or all."""
    ids = [f"app.smoke.module{i // 100}.Test{i // 10}.test_{i}" for i in range(300)]
    assert names_within(ids[:20], LONGEST_QUERY) == ids[:20]
    classes = names_within(ids[:100], LONGEST_QUERY)
    assert classes == [f"app.smoke.module0.Test{i}" for i in range(10)]
    assert names_within(ids, 120) == [f"app.smoke.module{i}" for i in range(3)]
    assert names_within(ids, 5) == []
    short = [f"a.{i}" for i in range(MAX_NAMES + 1)]
    assert names_within(short[:-1], LONGEST_QUERY) == short[:-1]
    assert names_within(short, LONGEST_QUERY) == ["a"]
