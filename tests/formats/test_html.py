"""HTML pages: their contents, and escaping of all text that tests and users supply."""

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

CONTEXT = PageContext(
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
    """Parser for elements and text, which checks that all elements are closed."""

    #: Void elements, which have no end tag.
    VOID = frozenset({"meta", "link", "input"})
    #: Elements whose text is separated by a space from the text that follows.
    SEPARATED = frozenset({"dt", "dd", "th", "td", "summary", "option"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], "unclosed elements"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in self.SEPARATED:
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
    return Page(render_overview(Overview(**defaults | fields), CONTEXT))


def failing(test_id: str = A, **fields: Any) -> Result:
    return make_result(
        Outcome.FAILED, make_declaration(test_id, **fields), message="2 votes are lost"
    )


def known(result: Result, **fields: Any) -> dict[str, KnownTest]:
    return {result.id: make_known_test(result, **fields)}


@pytest.mark.parametrize(
    ("tests", "status", "title"),
    [
        ([make_result()], "PASS", "PASS · Smoke tests"),
        ([make_result(), failing()], "FAIL", "FAIL: 1 of 2 · Smoke tests"),
        ([failing(severity=Severity.WARNING)], "PASS with warnings", "PASS with warnings ·"),
        ([make_result(Outcome.SKIPPED)], "PASS", "PASS · Smoke tests"),
        ([make_result(Outcome.NOT_RUN)], "FAIL", "FAIL · Smoke tests"),
        ([], "NO RESULT", "NO RESULT · Smoke tests"),
    ],
)
def test_status(tests: list[Result], status: str, title: str) -> None:
    """The page and its title start with the status in words."""
    page = overview(*tests)
    assert f" {status} " in page.text.partition("Smoke tests Smoke tests")[2][:40]
    assert page.text.startswith(title)


def test_summary() -> None:
    """The summary shows how many tests fail and since when, and the age of the run."""
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


def test_summary__only_warnings() -> None:
    """Failing warnings do not change the status of the critical tests."""
    warning = failing(severity=Severity.WARNING)
    page = overview(warning, known=known(warning, failing_since=NOW))
    assert "1 warning since 2026-02-01 12:00:00 UTC (2 h 2 min ago); all critical" in page.text


@pytest.mark.parametrize(
    ("stop_reason", "words"),
    [(StopReason.DEADLINE, "reached its deadline"), (StopReason.FAIL_FAST, "at the first failure")],
)
def test_summary__stop_reason(stop_reason: StopReason, words: str) -> None:
    """The summary gives the reason why a run stopped early."""
    assert words in overview(make_result(Outcome.NOT_RUN), report={"stop_reason": stop_reason}).text


def test_failing_test() -> None:
    """A failing test is listed first, with its message, history, limits, owner and traceback."""
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
    result = make_result(Outcome.FAILED, message="lost", traceback="secret/path.py")
    page = overview(result)
    assert "lost" in page.text
    assert "secret/path.py" not in page.text


def test_failing_tests__order() -> None:
    """Critical tests come first, then the test that has been failing longest, as a likely cause."""
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
    """A long message is truncated; its full text is in a collapsed element."""
    result = make_result(Outcome.FAILED, message="x" * 601 + "end")
    page = overview(result)
    assert "x" * 600 + "…" in page.text
    assert "x" * 601 + "end" in page.text


def test_collection_error() -> None:
    """A collection error shows the module and the message, but no timeout or slow threshold."""
    page = overview(make_collection_error(message="No module named 'lib'"))
    assert "errored blog.smoke No module named 'lib'" in page.text
    assert "slow threshold" not in page.text


def test_other_tests__grouped_by_app() -> None:
    """Other tests are grouped by app; slow tests are marked, skips show their reason."""
    page = overview(
        make_result(declaration=make_declaration(B, app="polls"), duration=1.0),
        make_result(Outcome.SKIPPED, make_declaration(A, app="blog"), message="not here"),
    )
    assert re.search(r"All tests blog 1 skipped .*not here.*polls 1 passed .*slow", page.text)


def test_nothing_stored() -> None:
    assert "No result is stored. Run the tests to see one." in overview().text
    page = overview(selection=Selection(names=("polls",)))
    assert "No result is stored for test polls." in page.text


def test_error_message() -> None:
    assert "NO RESULT The disk is full" in overview(error="The disk is full").text


def test_paused() -> None:
    """A paused site shows the end, the reason and the resume command, and has no run buttons."""
    page = overview(make_result(), failing(B), pause=Pause(until=NOW + 8000, reason="migration"))
    assert "Paused until 2026-02-01 14:13:20 UTC (migration)" in page.text
    assert "manage.py smoketest --resume" in page.text
    # The only button is that of the filter form.
    assert [tag for tag, _ in page.elements if tag == "button"] == ["button"]


def test_stale_result__refresh() -> None:
    """A stale page has a meta refresh for browsers without scripts, and a flag for the script."""
    page = overview(make_result(), fresh_url="?max_age=5&x=<")
    assert page.values("http-equiv") == ["refresh"]
    assert "0; url=?max_age=5&x=<" in page.values("content")
    assert page.having("data-stale")
    fresh = overview(make_result())
    assert not fresh.values("http-equiv")
    assert not fresh.having("data-stale")


def test_buttons() -> None:
    """The selection, the failing tests and each single test have a form that runs them."""
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
    """Rows that do not match the filter are hidden, so that the script can show them."""
    passing = make_result(declaration=make_declaration(B, app="blog"))
    page = overview(failing(), passing, shown=shown)
    rows = page.having("data-test")
    assert [row["data-test"] for row in rows if "hidden" not in row] == visible
    assert len(rows) == 2
    assert f"{len(visible)} of 2 tests shown" in page.text
    assert "1 of 2 tests failing" in page.text, "the filter must not change the status"


def test_filter__choices() -> None:
    """The filter offers the apps and tags of all known tests and selects the current values."""
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
    """The page replaces the results of a run by newer results, and ignores older ones."""
    report = make_report(failing(A), failing(B))
    newer = make_result(declaration=make_declaration(A), started_at=NOW + 60)
    older = make_result(declaration=make_declaration(B), started_at=NOW - 60)
    merged = with_newer_results(report, known(newer) | known(older))
    assert merged.results == (newer, failing(B))
    page = Page(render_overview(Overview(selection=Selection(), report=merged), CONTEXT))
    assert "1 test has run again since then." in page.text


def test_history() -> None:
    """The history has one bar per run, with the latest run at the right end."""
    recent = {A: [Outcome.PASSED] * 40 + [Outcome.FAILED] * 2 + [Outcome.SKIPPED]}
    page = overview(failing(), recent=recent)
    (label,) = (value for value in page.values("aria-label") if value.startswith("Last"))
    assert label == f"Last {STRIP_LENGTH} runs: 27 passed, 2 failed, 1 skipped"
    bars = {fields["class"]: fields["d"] for tag, fields in page.elements if tag == "path"}
    assert bars == {"passed": "M0 9h54", "problem": "M54 6h4", "skipped": "M58 11h2"}


def test_history__few_runs() -> None:
    """A short history is aligned to the right, so that the bars of several tests line up."""
    page = overview(failing(), recent={A: [Outcome.PASSED, Outcome.FAILED]})
    bars = {fields["class"]: fields["d"] for tag, fields in page.elements if tag == "path"}
    assert bars == {"passed": "M56 9h2", "problem": "M58 6h2"}


def details(result: Result, **fields: Any) -> Page:
    known_fields = {"failing_since": NOW, "consecutive_failures": 3} if result.is_problem else {}
    test = make_known_test(result, **known_fields)
    return Page(render_details(Details(test=test, **fields), CONTEXT))


def test_details() -> None:
    """The page of a test shows its declaration, its failure and its history."""
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
    """A test that passes again shows its last failure under "Last failure"."""
    failure = failing()
    page = details(make_result(declaration=failure.declaration), last_failure=failure)
    assert page.text.startswith("PASSED: PollsTest.test_a")
    assert "Last failure, 2026-02-01 12:00:00 UTC (2 h 2 min ago) 2 votes are lost" in page.text
    assert "Failure details" not in page.text


def test_details__skipped() -> None:
    """The page shows the time of the skip and its reason."""
    page = details(make_result(Outcome.SKIPPED, message="no volume"))
    assert page.text.startswith("SKIPPED: PollsTest.test_vote")
    assert "Skipped 2 h 2 min ago." in page.text
    assert "no volume" in page.text


def test_details__limited_role() -> None:
    result = make_result(Outcome.FAILED, traceback="in full")
    page = details(result, last_failure=result, source="polls/smoke.py:7")
    assert "in full" not in page.text
    assert "polls/smoke.py:7" not in page.text


def test_details__paused() -> None:
    """The page has no run button while runs are paused."""
    page = details(make_result(), pause=Pause(until=NOW, reason="migration"))
    assert "(migration)" in page.text
    assert "button" not in {tag for tag, _ in page.elements}


def test_problem() -> None:
    """An error page shows its message and a link to the index."""
    page = Page(render_problem(404, "There is no test <b>.", CONTEXT))
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
    """Only http and https URLs become links; other values are shown as text."""
    for page in (
        overview(failing(runbook_url=url)),
        details(failing(runbook_url=url), last_failure=failing(runbook_url=url)),
    ):
        assert (url in page.values("href")) is is_link
        assert is_link or url in page.text


#: Elements of the templates. The text of a test or a user must not add others.
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


def assert_has_only_template_elements(page: Page) -> None:
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
    """Every result is on the page, and no text of a test or a user becomes markup."""
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
    page = Page(render_overview(made, CONTEXT))
    assert_has_only_template_elements(page)
    assert len(page.having("data-test")) == len(report.results)


@PROPERTY
@given(result=results(), text=texts())
def test_details__any_result(result: Result, text: str) -> None:
    """No text of a test or a user becomes markup on the page of a single test."""
    page = details(result, last_failure=result, source=text, with_tracebacks=True)
    assert_has_only_template_elements(page)


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_external_text__is_escaped(attack: str) -> None:
    """Every field that holds external text is escaped."""
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
            CONTEXT,
        ),
        render_details(
            Details(
                test=make_known_test(result),
                last_failure=result,
                source=attack,
                with_tracebacks=True,
            ),
            CONTEXT,
        ),
        render_problem(404, attack, CONTEXT),
    ]
    for source in sources:
        assert attack not in source
        assert_has_only_template_elements(Page(source))


def test_surrogates() -> None:
    """A test id that UTF-8 cannot encode has a URL, and its page can be encoded."""
    source = render_overview(
        Overview(selection=Selection(), report=make_report(failing("polls.\udcff.test_a"))), CONTEXT
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
    """Durations are rounded to two significant digits."""
    assert seconds(duration) == words


def test_ago() -> None:
    assert [ago(0), ago(0.9), ago(1), ago(90)] == ["just now", "just now", "1 s ago", "1 min ago"]


def test_names_within() -> None:
    """Long lists are shortened from tests to classes to modules until the query fits in a URL."""
    ids = [f"app.smoke.module{i // 100}.Test{i // 10}.test_{i}" for i in range(300)]
    assert names_within(ids[:20], LONGEST_QUERY) == ids[:20]
    classes = names_within(ids[:100], LONGEST_QUERY)
    assert classes == [f"app.smoke.module0.Test{i}" for i in range(10)]
    assert names_within(ids, 120) == [f"app.smoke.module{i}" for i in range(3)]
    assert names_within(ids, 5) == []
    short = [f"a.{i}" for i in range(MAX_NAMES + 1)]
    assert names_within(short[:-1], LONGEST_QUERY) == short[:-1]
    assert names_within(short, LONGEST_QUERY) == ["a"]
