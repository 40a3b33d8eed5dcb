"""HTML: the pages for people. They need no other host, no inline style and no inline script.

What a test or a user wrote is escaped by the template engine, which is our own: neither the
site's templates nor its context processors have a say in it.
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

#: How many of the latest runs a strip shows.
STRIP_LENGTH = 30
#: Characters of a message that are shown unasked.
SHOWN_MESSAGE = 600
#: Characters of a query that every server takes; gunicorn takes 4094 of a whole request line.
LONGEST_QUERY = 2000
#: Among the outcomes that one may filter by: all that say that a test did not pass.
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
    """Which of the tests a reader wants to see; it changes neither the run nor the status."""

    #: A part of the name, upper or lower case.
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
    """The addresses of the pages; paths, as no page links to another host."""

    index: str
    #: Files that the pages need, by their names.
    assets: Mapping[str, str]

    def test(self, test_id: str) -> str:
        return f"{self.index}test/{quote(encodable(test_id), safe='')}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """What all pages are told."""

    links: Links
    #: Unix time.
    now: float
    #: Empty where none can be made, such as without a session that can be read.
    csrf_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What is known of the selected tests."""

    selection: Selection
    failfast: bool = False
    shown: Filter = EVERY_TEST
    #: The report to show; None if none is stored.
    report: Report | None = None
    known: Mapping[str, KnownTest] = field(default_factory=dict)
    #: What came of each test in its latest runs, the latest last.
    recent: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    pause: Pause | None = None
    #: Why nothing stored can be shown, if so.
    trouble: str = ""
    #: Where a browser goes that runs no scripts, for a report that is fresh enough; empty if
    #: this one is.
    fresh_url: str = ""
    with_tracebacks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is known of one test."""

    test: KnownTest
    #: The latest first.
    past: Sequence[PastResult] = ()
    last_failure: Result | None = None
    #: Where it stands in the code; shown with tracebacks alone.
    source: str = ""
    pause: Pause | None = None
    with_tracebacks: bool = False


def render_overview(overview: Overview, frame: PageContext) -> str:
    report = overview.report
    results = report.results if report else ()
    rows = [_row(result, overview, frame) for result in results]
    problems = [row for row in rows if row["is_problem"]]
    problems.sort(key=lambda row: (not row["is_critical"], row["since"]))
    others = sorted((row for row in rows if not row["is_problem"]), key=lambda row: row["app"])
    declarations = [known.result.declaration for known in overview.known.values()]
    declarations += [result.declaration for result in results]
    selection = overview.selection
    return _render(
        "overview.html",
        frame,
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
            "summary": _summary(report, overview, frame.now) if report else None,
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


def render_details(details: Details, frame: PageContext) -> str:
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
        frame,
        {
            "test": _row(result, overview, frame),
            "declared": result.declaration,
            "times": {
                name: seconds(getattr(result.declaration, name))
                for name in ("timeout", "slow_after", "every")
            },
            "verdict": _verdict_of_test(result),
            "runbook_url": _web_address(result.declaration.runbook_url),
            "failures": details.test.consecutive_failures,
            "last_failure": failure and _row(failure, overview, frame),
            "is_failing": result.is_problem,
            "at": _moment(result.finished_at, frame.now),
            "past": [
                {
                    "outcome": past.outcome,
                    "word": _WORDS[past.outcome],
                    "at": _moment(past.started_at, frame.now),
                    "duration": seconds(past.duration),
                }
                for past in details.past
            ],
            "source": details.source if details.with_tracebacks else "",
            "pause": _pause(details.pause),
        },
    )


def render_problem(status: int, message: str, frame: PageContext) -> str:
    """A page that says why there is no other."""
    return _render("problem.html", frame, {"status": status, "message": message})


def with_newer_results(report: Report, known: Mapping[str, KnownTest]) -> Report:
    """The report, with the results of tests that ran again since."""

    def newest(result: Result) -> Result:
        other = known.get(result.id)
        return other.result if other and other.result.started_at > result.started_at else result

    return replace(report, results=tuple(map(newest, report.results)))


def names_within(ids: Sequence[str], limit: int) -> list[str]:
    """Names that select these tests in a query of so many characters.

    Where there are too many tests, those of their classes, their modules, or all of them.
    """
    names = list(ids)
    while names and len(urlencode([("test", encodable(name)) for name in names])) > limit:
        names = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        if not all(names):
            return []
    return names


def seconds(duration: float) -> str:
    """A duration in few characters: ``4 ms``, ``0.31 s``, ``12 s``, ``2 h 5 min``."""
    if duration < 0.0995:
        return f"{duration * 1000:.0f} ms"
    if duration < 60:
        return f"{duration:.2g} s"
    return _coarse(duration)


def ago(duration: float) -> str:
    """How long ago something was."""
    return "just now" if duration < 1 else f"{_coarse(duration)} ago"


def _coarse(duration: float) -> str:
    minutes, hours, days = (int(duration // unit) for unit in (60, 3600, 86400))
    if days >= 2:
        return f"{days} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{duration:.0f} s"


def _render(template: str, frame: PageContext, values: Mapping[str, Any]) -> str:
    # Numbers are written the same whatever the language of the visitor or the thread.
    values = {"frame": frame, "now": iso(frame.now), **values}
    context = Context(values, use_l10n=False, use_tz=False)
    return encodable(_ENGINE.get_template(template).render(context))


def _row(result: Result, overview: Overview, frame: PageContext) -> dict[str, Any]:
    """What a template says of one test."""
    declared = result.declaration
    known = overview.known.get(result.id)
    class_id, _, method = result.id.rpartition(".")
    module, _, class_name = class_id.rpartition(".")
    failing_since = known.failing_since if known and result.is_problem else None
    is_slow = result.outcome.is_conclusive and result.duration >= declared.slow_after
    row: dict[str, Any] = {
        "id": result.id,
        "url": frame.links.test(result.id),
        "name": result.id if declared.is_collection_error else f"{class_name}.{method}",
        "module": "" if declared.is_collection_error else module,
        "app": declared.app,
        "tags": " ".join(declared.tags),
        "outcome": result.outcome,
        "word": _WORDS[result.outcome],
        "is_problem": result.is_problem,
        "is_critical": result.is_critical,
        "is_slow": is_slow and not declared.is_collection_error,
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
        "slow_after": seconds(declared.slow_after),
        "timeout": seconds(declared.timeout),
        "is_collection_error": declared.is_collection_error,
        "severity": declared.severity,
        "maintainer": declared.maintainer,
        "description": declared.description,
        "runbook": declared.runbook_url,
        "runbook_url": _web_address(declared.runbook_url),
        "at": _moment(result.started_at, frame.now),
        "failing_since": _moment(failing_since, frame.now),
        "failures": known.consecutive_failures if known else 0,
        "last_success": _moment(known.last_success_at if known else None, frame.now),
        "is_known": known is not None,
        "traceback": result.traceback if overview.with_tracebacks else "",
    }


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The status in words, and in a colour."""

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
    """What stands below the verdict."""
    critical = [result for result in report.problems if result.is_critical]
    beginnings = [
        known.failing_since
        for result in (critical or report.problems)
        if (known := overview.known.get(result.id)) and known.failing_since is not None
    ]
    counts = Counter(result.outcome for result in report.results)
    return {
        "failing": len(critical),
        "warnings": len(report.warnings),
        "since": _moment(min(beginnings, default=None), now),
        "counts": [(outcome, _WORDS[outcome], counts[outcome]) for outcome in Outcome],
        "finished": _moment(report.finished_at, now),
        "duration": seconds(report.duration),
        "cut": {
            StopReason.NONE: "",
            StopReason.FAIL_FAST: "It ended at the first failure, as was asked.",
            StopReason.DEADLINE: "Its time was up before all tests had run.",
            StopReason.INTERRUPT: "Somebody interrupted it before all tests had run.",
        }[report.stop_reason],
        "newer": sum(result.started_at > report.finished_at for result in report.results),
    }


def _moment(timestamp: float | None, now: float) -> dict[str, SafeString] | None:
    """The time of day, and how long ago it was, which the page keeps up to date."""
    if timestamp is None:
        return None
    machine, words = iso(timestamp), ago(max(0.0, now - timestamp))
    return {
        "utc": format_html('<time datetime="{}">{}</time>', machine, utc(timestamp)),
        "ago": format_html(
            '<time class="ago" datetime="{}" title="{}">{}</time>', machine, utc(timestamp), words
        ),
    }


def _pause(pause: Pause | None) -> dict[str, str] | None:
    return {"until": utc(pause.until), "reason": pause.reason} if pause else None


def _web_address(url: str) -> str:
    """The URL, if it is one that a browser may be sent to."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in {"http", "https"} and parts.netloc else ""


#: Heights and kinds of the bars: what went wrong stands out without colour, too.
_BARS = {
    Outcome.PASSED: ("passed", 9),
    Outcome.FAILED: ("problem", 6),
    Outcome.ERRORED: ("problem", 6),
    Outcome.TIMED_OUT: ("problem", 6),
    Outcome.SKIPPED: ("skipped", 11),
    Outcome.NOT_RUN: ("skipped", 11),
}


def _strip(outcomes: Sequence[Outcome]) -> SafeString:
    """A bar for each of the latest runs, the latest on the right; lines that CSS makes dashes of.

    An image, as attributes of SVG need no inline style.
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
    words = ", ".join(f"{counts[o]} {_WORDS[o]}" for o in Outcome if counts[o])
    drawn = SafeString("".join(f'<path class="{k}" d="{"".join(d)}"/>' for k, d in paths.items()))
    runs = "run" if len(outcomes) == 1 else f"{len(outcomes)} runs"
    return format_html(
        '<svg class="strip" viewBox="0 0 {} 12" role="img" aria-label="Last {}: {}">{}</svg>',
        2 * STRIP_LENGTH,
        runs,
        words,
        drawn,
    )
