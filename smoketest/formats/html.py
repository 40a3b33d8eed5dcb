"""The HTML pages, without inline styles, inline scripts and resources of other hosts.

The pages have a template engine of their own, so the templates and context processors of the site
do not affect them. The engine escapes the messages of tests and the input of users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from django.template import Context, Engine
from django.utils.html import format_html
from django.utils.safestring import SafeString

from smoketest.results import (
    EVERY_RESULT,
    MAX_NAMES,
    PROBLEM,
    Declaration,
    Outcome,
    Report,
    Result,
    ResultFilter,
    Selection,
    StopReason,
    iso,
    utc,
)
from smoketest.runner.failures import encodable
from smoketest.store import KnownTest, PastResult, Pause

#: Number of runs in the history strip of a test.
STRIP_LENGTH = 30
#: Characters. Longer messages are truncated, with the full message in a ``<details>`` element.
SHOWN_MESSAGE = 600
#: Maximum characters of a query string. Gunicorn limits the whole request line to 4094.
LONGEST_QUERY = 2000
_ENGINE = Engine(dirs=[str(Path(__file__).parent / "templates")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The URLs of the pages, without scheme and host."""

    index: str
    #: URLs of static files, by their names.
    assets: Mapping[str, str]

    def test(self, test_id: str) -> str:
        return f"{self.index}test/{quote(encodable(test_id), safe='')}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """Values that all pages need."""

    links: Links
    #: Unix time.
    now: float
    #: Empty if the session cannot be read.
    csrf_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Data of the page with the results of the selected tests."""

    selection: Selection
    failfast: bool = False
    shown: ResultFilter = EVERY_RESULT
    #: None if no report is stored.
    report: Report | None = None
    #: Stored tests by id.
    known: Mapping[str, KnownTest] = field(default_factory=dict)
    #: Outcomes of the latest runs by test id, oldest first.
    recent: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    pause: Pause | None = None
    #: Error message if the stored results cannot be read.
    error: str = ""
    #: Message if the results are only those of one process of the site.
    notice: str = ""
    #: URL of a fresh report, for browsers without JavaScript; empty if the report is fresh enough.
    fresh_url: str = ""
    with_tracebacks: bool = False

    @property
    def results(self) -> tuple[Result, ...]:
        return self.report.results if self.report else ()

    @property
    def declarations(self) -> list[Declaration]:
        """The declarations of all known tests, for the choices of the filter."""
        stored = (test.result for test in self.known.values())
        return [result.declaration for result in (*stored, *self.results)]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values of form fields that repeat the selection, except its tags."""
        failfast = [("failfast", "1")] if self.failfast else []
        return [*replace(self.selection, tags=()).parameters(), *failfast]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Data of the page of a single test."""

    test: KnownTest
    #: Earlier results, newest first.
    past: Sequence[PastResult] = ()
    last_failure: Result | None = None
    #: File and line of the test; displayed only if `with_tracebacks` is true.
    source: str = ""
    pause: Pause | None = None
    with_tracebacks: bool = False


class Time(NamedTuple):
    """``<time>`` elements with a time and with its age, which page.js updates."""

    utc: SafeString
    ago: SafeString


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A test as the templates display it."""

    page: PageContext
    result: Result
    known: KnownTest | None
    strip: SafeString
    is_hidden: bool
    with_tracebacks: bool

    @property
    def declared(self) -> Declaration:
        return self.result.declaration

    @property
    def url(self) -> str:
        return self.page.links.test(self.result.id)

    @property
    def name(self) -> str:
        """``Class.method``, or the module if it could not be imported."""
        return self.result.id.removeprefix(f"{self.module}.")

    @property
    def module(self) -> str:
        """The module; empty if that is the name."""
        if self.declared.is_collection_error:
            return ""
        return self.result.class_id.rpartition(".")[0]

    @property
    def is_slow(self) -> bool:
        result, declared = self.result, self.declared
        is_timed = result.outcome.is_conclusive and not declared.is_collection_error
        return is_timed and result.duration >= declared.slow_after

    @property
    def is_long(self) -> bool:
        return len(self.result.message) > SHOWN_MESSAGE

    @property
    def message_start(self) -> str:
        return self.result.message[:SHOWN_MESSAGE]

    @property
    def duration(self) -> str:
        return seconds(self.result.duration)

    @property
    def slow_after(self) -> str:
        return seconds(self.declared.slow_after)

    @property
    def timeout(self) -> str:
        return seconds(self.declared.timeout)

    @property
    def every(self) -> str:
        return seconds(self.declared.every)

    @property
    def runbook_url(self) -> str:
        return _web_address(self.declared.runbook_url)

    @property
    def traceback(self) -> str:
        return self.result.traceback if self.with_tracebacks else ""

    @property
    def at(self) -> Time | None:
        return _time(self.result.started_at, self.page.now)

    @property
    def finished(self) -> Time | None:
        return _time(self.result.finished_at, self.page.now)

    @property
    def failing_since(self) -> Time | None:
        return _time(self._failing_since, self.page.now)

    @property
    def last_success(self) -> Time | None:
        return _time(self.known.last_success_at if self.known else None, self.page.now)

    @property
    def urgency(self) -> tuple[bool, float]:
        """Sort key: critical tests first, then those that have been failing for longer."""
        return not self.result.is_critical, self._failing_since or self.result.started_at

    @property
    def _failing_since(self) -> float | None:
        return self.known.failing_since if self.known and self.result.is_problem else None


class Group(NamedTuple):
    """The tests of an app."""

    app: str
    tests: Sequence[Row]

    @property
    def is_hidden(self) -> bool:
        return all(row.is_hidden for row in self.tests)


def render_overview(overview: Overview, page: PageContext) -> str:
    """Render the page with the results of the selected tests."""
    rows = [_row(result, overview, page) for result in overview.results]
    problems = sorted((row for row in rows if row.result.is_problem), key=lambda row: row.urgency)
    others = [row for row in rows if not row.result.is_problem]
    by_app = groupby(sorted(others, key=_app), _app)
    return _render(
        "overview.html",
        page,
        {
            "verdict": _verdict(overview.report),
            "overview": overview,
            "selection": "" if overview.selection.is_everything else str(overview.selection),
            "summary": overview.report and _summary(overview.report, overview.known, page.now),
            "failing": Group("", problems),
            "groups": [Group(app, list(tests)) for app, tests in by_app],
            "no_other_shown": Group("", others).is_hidden,
            "shown_count": sum(not row.is_hidden for row in rows),
            "count": len(rows),
            "failing_names": names_within([row.result.id for row in problems], LONGEST_QUERY),
            "apps": sorted({declared.app for declared in overview.declarations}),
            "tags": sorted({tag for declared in overview.declarations for tag in declared.tags}),
            "outcomes": [(PROBLEM, "any problem"), *((one.value, one.words) for one in Outcome)],
            "pause": _pause(overview.pause),
        },
    )


def _app(row: Row) -> str:
    return row.declared.app


def render_details(details: Details, page: PageContext) -> str:
    """Render the page of a test."""
    result = details.test.result
    overview = Overview(
        selection=Selection(),
        known={result.id: details.test},
        recent={result.id: [past.outcome for past in details.past[:STRIP_LENGTH]][::-1]},
        with_tracebacks=details.with_tracebacks,
    )
    failure = details.last_failure
    return _render(
        "test.html",
        page,
        {
            "test": _row(result, overview, page),
            "verdict": _verdict_of_test(result),
            "last_failure": failure and _row(failure, overview, page),
            "past": [
                {
                    "outcome": past.outcome,
                    "at": _time(past.started_at, page.now),
                    "duration": seconds(past.duration),
                }
                for past in details.past
            ],
            "source": details.source if details.with_tracebacks else "",
            "pause": _pause(details.pause),
        },
    )


def render_problem(status: int, message: str, page: PageContext) -> str:
    """Render an error page."""
    return _render("problem.html", page, {"status": status, "message": message})


def with_newer_results(report: Report, known: Mapping[str, KnownTest]) -> Report:
    """Return the report with its results replaced by newer results of the same tests."""

    def newest(result: Result) -> Result:
        stored = known.get(result.id)
        return stored.result if stored and stored.result.started_at > result.started_at else result

    return replace(report, results=tuple(map(newest, report.results)))


def names_within(ids: Sequence[str], limit: int) -> list[str]:
    """Return names that select these tests in a query string of at most `limit` characters.

    Test ids that are too long together are replaced by the names of the classes, then of the
    modules. An empty list selects all tests.
    """
    names = list(ids)
    while names and (
        len(names) > MAX_NAMES
        or len(urlencode([("test", encodable(name)) for name in names])) > limit
    ):
        names = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        if not all(names):
            return []
    return names


def seconds(duration: float) -> str:
    """Format a duration: ``4 ms``, ``0.31 s``, ``12 s``, ``2 h 5 min``."""
    if duration < 0.0995:
        return f"{duration * 1000:.0f} ms"
    if duration < 60:
        return f"{duration:.2g} s"
    return _coarse(duration)


def ago(duration: float) -> str:
    """Format the time since an event."""
    return "just now" if duration < 1 else f"{_coarse(duration)} ago"


def _coarse(duration: float) -> str:
    minutes, hours, days = (int(duration // unit) for unit in (60, 3600, 86400))
    if days >= 2:
        return f"{days} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{duration:.0f} s"


def _render(template: str, page: PageContext, values: Mapping[str, Any]) -> str:
    # Numbers do not depend on the active language.
    values = {"page": page, "now": iso(page.now), **values}
    context = Context(values, use_l10n=False, use_tz=False)
    return encodable(_ENGINE.get_template(template).render(context))


def _row(result: Result, overview: Overview, page: PageContext) -> Row:
    return Row(
        page=page,
        result=result,
        known=overview.known.get(result.id),
        strip=_strip(overview.recent.get(result.id, ())),
        is_hidden=not overview.shown.matches(result),
        with_tracebacks=overview.with_tracebacks,
    )


Tone = Literal["pass", "warn", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The status as text and as a color."""

    words: str
    tone: Tone


def _verdict(report: Report | None) -> _Verdict:
    if report is None or not report.results:
        return _Verdict("NO RESULT", "unknown")
    if not report.passed:
        return _Verdict(report.status, "fail")
    if report.warnings:
        return _Verdict(f"{report.status} with warnings", "warn")
    return _Verdict(report.status, "pass")


def _verdict_of_test(result: Result) -> _Verdict:
    tone: Tone = "pass" if result.outcome is Outcome.PASSED else "unknown"
    if result.is_problem:
        tone = "fail" if result.is_critical else "warn"
    return _Verdict(result.outcome.words.upper(), tone)


_STOPPED = {
    StopReason.NONE: "",
    StopReason.FAIL_FAST: "The run stopped at the first failure.",
    StopReason.DEADLINE: "The run reached its deadline before all tests had run.",
    StopReason.INTERRUPT: "The run was interrupted before all tests had run.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Summary:
    """The summary of a report, displayed below its status."""

    #: Number of failing critical tests.
    failing: int
    #: Number of failing tests of severity "warning".
    warnings: int
    since: Time | None
    counts: Sequence[tuple[str, int]]
    finished: Time | None
    duration: str
    #: Reason why the run was stopped; empty if it completed.
    stopped: str
    #: Number of tests that have run again since.
    newer: int


def _summary(report: Report, known: Mapping[str, KnownTest], now: float) -> _Summary:
    critical = [result for result in report.problems if result.is_critical]
    failing_since = [
        test.failing_since
        for result in (critical or report.problems)
        if (test := known.get(result.id)) and test.failing_since is not None
    ]
    return _Summary(
        failing=len(critical),
        warnings=len(report.warnings),
        since=_time(min(failing_since, default=None), now),
        counts=[(outcome.words, report.count(outcome)) for outcome in Outcome],
        finished=_time(report.finished_at, now),
        duration=seconds(report.duration),
        stopped=_STOPPED[report.stop_reason],
        newer=sum(result.started_at > report.finished_at for result in report.results),
    )


def _time(timestamp: float | None, now: float) -> Time | None:
    if timestamp is None:
        return None
    value, age = iso(timestamp), ago(max(0.0, now - timestamp))
    return Time(
        utc=format_html('<time datetime="{}">{}</time>', value, utc(timestamp)),
        ago=format_html(
            '<time class="ago" datetime="{}" title="{}">{}</time>', value, utc(timestamp), age
        ),
    )


def _pause(pause: Pause | None) -> dict[str, str] | None:
    return {"until": utc(pause.until), "reason": pause.reason} if pause else None


def _web_address(url: str) -> str:
    """Return the URL if it is safe to link to (http or https), or an empty string."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in {"http", "https"} and parts.netloc else ""


#: CSS classes and vertical positions of the bars. Their heights differ too, so that failures can be
#: recognized without color.
_BARS = {
    Outcome.PASSED: ("passed", 9),
    Outcome.FAILED: ("problem", 6),
    Outcome.ERRORED: ("problem", 6),
    Outcome.TIMED_OUT: ("problem", 6),
    Outcome.SKIPPED: ("skipped", 11),
    Outcome.NOT_RUN: ("skipped", 11),
}


def _strip(outcomes: Sequence[Outcome]) -> SafeString:
    """Return an SVG image with a bar for each run, newest on the right.

    Equal outcomes in a row are one path, which CSS divides into bars with ``stroke-dasharray``.
    SVG attributes position the bars without inline styles, which the policy forbids.
    """
    outcomes = outcomes[-STRIP_LENGTH:]
    if not outcomes:
        return SafeString("")
    paths: dict[str, list[str]] = {}
    x = STRIP_LENGTH - len(outcomes)
    for (kind, y), bars in groupby(outcomes, _BARS.__getitem__):
        length = len(list(bars))
        paths.setdefault(kind, []).append(f"M{2 * x} {y}h{2 * length}")
        x += length
    counts = Counter(outcomes)
    summary = ", ".join(f"{counts[o]} {o.words}" for o in Outcome if counts[o])
    drawn = SafeString("".join(f'<path class="{k}" d="{"".join(d)}"/>' for k, d in paths.items()))
    runs = "run" if len(outcomes) == 1 else f"{len(outcomes)} runs"
    return format_html(
        '<svg class="strip" viewBox="0 0 {} 12" role="img" aria-label="Last {}: {}">{}</svg>',
        2 * STRIP_LENGTH,
        runs,
        summary,
        drawn,
    )
