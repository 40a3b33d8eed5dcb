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
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from django.template import Context, Engine
from django.utils.html import format_html
from django.utils.safestring import SafeString

from smoketest.results import Outcome, Report, Result, Selection, StopReason, iso, utc
from smoketest.runner.failures import encodable
from smoketest.store import KnownTest, PastResult, Pause

#: Number of runs in the history strip of a test.
STRIP_LENGTH = 30
#: Characters. Longer messages are truncated, with the full message in a ``<details>`` element.
SHOWN_MESSAGE = 600
#: Maximum characters of a query string. Gunicorn limits the whole request line to 4094.
LONGEST_QUERY = 2000
#: Filter for all outcomes of tests that did not pass.
PROBLEM = "problem"
OUTCOMES = (PROBLEM, *Outcome)

_ENGINE = Engine(dirs=[str(Path(__file__).parent / "templates")])

_WORDS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.ERRORED: "errored",
    Outcome.TIMED_OUT: "timed out",
    Outcome.SKIPPED: "skipped",
    Outcome.NOT_RUN: "not run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Filter of the displayed results. It does not affect the status or which tests are run."""

    #: Part of the test id, case-insensitive.
    text: str = ""
    app: str = ""
    #: One of `OUTCOMES`.
    outcome: str = ""

    @property
    def is_active(self) -> bool:
        return bool(self.text or self.app or self.outcome)

    def matches(self, result: Result) -> bool:
        outcomes = {result.outcome, PROBLEM} if result.is_problem else {result.outcome}
        return (
            self.text.casefold() in result.id.casefold()
            and self.app in {"", result.declaration.app}
            and self.outcome in {"", *outcomes}
        )


EVERY_TEST = Filter()


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
    shown: Filter = EVERY_TEST
    #: None if no report is stored.
    report: Report | None = None
    #: Stored tests by id.
    known: Mapping[str, KnownTest] = field(default_factory=dict)
    #: Outcomes of the latest runs by test id, oldest first.
    recent: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    pause: Pause | None = None
    #: Error message if the stored results cannot be read.
    error: str = ""
    #: URL of a fresh report, for browsers without JavaScript; empty if the report is fresh enough.
    fresh_url: str = ""
    with_tracebacks: bool = False


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


def render_overview(overview: Overview, page: PageContext) -> str:
    report = overview.report
    results = report.results if report else ()
    rows = [_row(result, overview, page) for result in results]
    problems = [row for row in rows if row["is_problem"]]
    problems.sort(key=lambda row: (not row["is_critical"], row["since"]))
    others = sorted((row for row in rows if not row["is_problem"]), key=lambda row: row["app"])
    declarations = [known.result.declaration for known in overview.known.values()]
    declarations += [result.declaration for result in results]
    selection = overview.selection
    return _render(
        "overview.html",
        page,
        {
            "verdict": _verdict(report),
            "overview": overview,
            "report": report,
            "selection": None if selection.is_everything else str(selection),
            "hidden": [
                *replace(selection, tags=()).parameters(),
                *([("failfast", "1")] if overview.failfast else []),
            ],
            "selected_tags": selection.tags,
            "summary": _summary(report, overview, page.now) if report else None,
            "problems": problems,
            "groups": [
                (app, tests, all(row["is_hidden"] for row in tests))
                for app, group in groupby(others, lambda row: row["app"])
                for tests in [list(group)]
            ],
            "no_problem_shown": all(row["is_hidden"] for row in problems),
            "no_other_shown": all(row["is_hidden"] for row in others),
            "shown_count": sum(not row["is_hidden"] for row in rows),
            "count": len(rows),
            "failing_names": names_within([row["id"] for row in problems], LONGEST_QUERY),
            "apps": sorted({declaration.app for declaration in declarations}),
            "tags": sorted({tag for declaration in declarations for tag in declaration.tags}),
            "outcomes": [(PROBLEM, "any problem"), *((o.value, _WORDS[o]) for o in Outcome)],
            "pause": _pause(overview.pause),
        },
    )


def render_details(details: Details, page: PageContext) -> str:
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
            "declared": result.declaration,
            "times": {
                name: seconds(getattr(result.declaration, name))
                for name in ("timeout", "slow_after", "every")
            },
            "verdict": _verdict_of_test(result),
            "runbook_url": _web_address(result.declaration.runbook_url),
            "failures": details.test.consecutive_failures,
            "last_failure": failure and _row(failure, overview, page),
            "is_failing": result.is_problem,
            "at": _time(result.finished_at, page.now),
            "past": [
                {
                    "outcome": past.outcome,
                    "word": _WORDS[past.outcome],
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
    while names and len(urlencode([("test", encodable(name)) for name in names])) > limit:
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


def _row(result: Result, overview: Overview, page: PageContext) -> dict[str, Any]:
    """Return the template variables of a test."""
    declaration = result.declaration
    known = overview.known.get(result.id)
    class_id, _, method = result.id.rpartition(".")
    module, _, class_name = class_id.rpartition(".")
    failing_since = known.failing_since if known and result.is_problem else None
    is_slow = result.outcome.is_conclusive and result.duration >= declaration.slow_after
    row: dict[str, Any] = {
        "id": result.id,
        "url": page.links.test(result.id),
        "name": result.id if declaration.is_collection_error else f"{class_name}.{method}",
        "module": "" if declaration.is_collection_error else module,
        "app": declaration.app,
        "tags": " ".join(declaration.tags),
        "outcome": result.outcome,
        "word": _WORDS[result.outcome],
        "is_problem": result.is_problem,
        "is_critical": result.is_critical,
        "is_slow": is_slow and not declaration.is_collection_error,
        "is_hidden": not overview.shown.matches(result),
        "is_carried": result.carried,
        "message": result.message,
        "duration": seconds(result.duration),
        "strip": _strip(overview.recent.get(result.id, ())),
        "since": failing_since or result.started_at,
    }
    if not result.is_problem:
        return row
    is_long = len(result.message) > SHOWN_MESSAGE
    return {
        **row,
        "message_start": result.message[:SHOWN_MESSAGE] if is_long else result.message,
        "is_long": is_long,
        "exception": result.exception,
        "slow_after": seconds(declaration.slow_after),
        "timeout": seconds(declaration.timeout),
        "is_collection_error": declaration.is_collection_error,
        "severity": declaration.severity,
        "maintainer": declaration.maintainer,
        "description": declaration.description,
        "runbook": declaration.runbook_url,
        "runbook_url": _web_address(declaration.runbook_url),
        "at": _time(result.started_at, page.now),
        "failing_since": _time(failing_since, page.now),
        "failures": known.consecutive_failures if known else 0,
        "last_success": _time(known.last_success_at if known else None, page.now),
        "is_known": known is not None,
        "traceback": result.traceback if overview.with_tracebacks else "",
    }


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The status as text and as a color."""

    words: str
    tone: Literal["pass", "warn", "fail", "unknown"]


def _verdict(report: Report | None) -> _Verdict:
    if report is None or not report.results:
        return _Verdict("NO RESULT", "unknown")
    if not report.passed:
        return _Verdict("FAIL", "fail")
    if report.warnings:
        return _Verdict("PASS with warnings", "warn")
    return _Verdict("PASS", "pass")


def _verdict_of_test(result: Result) -> _Verdict:
    if result.is_problem:
        word = _WORDS[result.outcome].upper()
        return _Verdict(word, "fail") if result.is_critical else _Verdict(word, "warn")
    if result.outcome is Outcome.PASSED:
        return _Verdict("PASSED", "pass")
    return _Verdict(_WORDS[result.outcome].upper(), "unknown")


def _summary(report: Report, overview: Overview, now: float) -> dict[str, Any]:
    """Return the template variables of the summary below the status."""
    critical = [result for result in report.problems if result.is_critical]
    failing_since = [
        known.failing_since
        for result in (critical or report.problems)
        if (known := overview.known.get(result.id)) and known.failing_since is not None
    ]
    counts = Counter(result.outcome for result in report.results)
    return {
        "failing": len(critical),
        "warnings": len(report.warnings),
        "since": _time(min(failing_since, default=None), now),
        "counts": [(outcome, _WORDS[outcome], counts[outcome]) for outcome in Outcome],
        "finished": _time(report.finished_at, now),
        "duration": seconds(report.duration),
        "stopped": {
            StopReason.NONE: "",
            StopReason.FAIL_FAST: "The run stopped at the first failure.",
            StopReason.DEADLINE: "The run reached its deadline before all tests had run.",
            StopReason.INTERRUPT: "The run was interrupted before all tests had run.",
        }[report.stop_reason],
        "newer": sum(result.started_at > report.finished_at for result in report.results),
    }


def _time(timestamp: float | None, now: float) -> dict[str, SafeString] | None:
    """Return ``<time>`` elements with the time and its age, which page.js updates."""
    if timestamp is None:
        return None
    value, age = iso(timestamp), ago(max(0.0, now - timestamp))
    return {
        "utc": format_html('<time datetime="{}">{}</time>', value, utc(timestamp)),
        "ago": format_html(
            '<time class="ago" datetime="{}" title="{}">{}</time>', value, utc(timestamp), age
        ),
    }


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
    summary = ", ".join(f"{counts[o]} {_WORDS[o]}" for o in Outcome if counts[o])
    drawn = SafeString("".join(f'<path class="{k}" d="{"".join(d)}"/>' for k, d in paths.items()))
    runs = "run" if len(outcomes) == 1 else f"{len(outcomes)} runs"
    return format_html(
        '<svg class="strip" viewBox="0 0 {} 12" role="img" aria-label="Last {}: {}">{}</svg>',
        2 * STRIP_LENGTH,
        runs,
        summary,
        drawn,
    )
