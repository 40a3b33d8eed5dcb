"""JUnit XML format, for Jenkins, GitLab and GitHub Actions.

The format has no specification. The elements and attributes are those of ``junit-10.xsd`` in the
xUnit plugin of Jenkins: https://github.com/jenkinsci/xunit-plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree import ElementTree

from smoketest.coordination.coordinator import Answer
from smoketest.results import Outcome, Result

NAME = "smoke tests"
#: Characters that are not allowed in XML 1.0 (https://www.w3.org/TR/xml/#charsets).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(answer: Answer, *, with_tracebacks: bool) -> str:
    """Render a report, with a suite for each class.

    Failing warnings are reported as skipped, with their messages, because every failure in a JUnit
    report fails the build.
    """
    report = answer.report
    root = ElementTree.Element("testsuites", name=NAME, time=_seconds(report.duration))
    _count(root, report.results)
    by_class: dict[str, list[Result]] = {}
    for result in report.results:  # results of class fixtures are at the end of the report
        by_class.setdefault(result.class_id, []).append(result)
    for class_id, results in by_class.items():
        _add_suite(root, class_id, results, with_tracebacks=with_tracebacks)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_suite(
    root: ElementTree.Element, class_id: str, results: list[Result], *, with_tracebacks: bool
) -> None:
    started = datetime.fromtimestamp(min(result.started_at for result in results), UTC)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=_clean(class_id),
        time=_seconds(sum(result.duration for result in results)),
        timestamp=started.strftime("%Y-%m-%dT%H:%M:%S"),
    )
    _count(suite, results)
    suite.set("skipped", str(sum(_kind(result) == "skipped" for result in results)))
    for result in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_clean(class_id),
            name=_clean(result.id.removeprefix(f"{class_id}.")),
            time=_seconds(result.duration),
        )
        _add_outcome(case, result, with_traceback=with_tracebacks)


def _add_outcome(case: ElementTree.Element, result: Result, *, with_traceback: bool) -> None:
    kind = _kind(result)
    if not kind:
        return
    message = result.message
    if result.is_problem and kind == "skipped":
        message = f"warning, {result.outcome.words}: {result.message}"
    elif result.outcome is Outcome.NOT_RUN:
        message = f"not run: {result.message}"
    element = ElementTree.SubElement(case, kind, message=_clean(message))
    if kind != "skipped":
        element.set("type", _clean(result.exception or result.outcome))
        details = result.traceback if with_traceback else ""
        element.text = _clean(details or result.message)


def _kind(result: Result) -> str:
    """Return the name of the element of an outcome; empty if the test passed."""
    if result.outcome is Outcome.PASSED:
        return ""
    if not result.is_problem or not result.is_critical:
        return "skipped"
    return "failure" if result.outcome is Outcome.FAILED else "error"


def _count(element: ElementTree.Element, results: Iterable[Result]) -> None:
    kinds = [_kind(result) for result in results]
    element.set("tests", str(len(kinds)))
    element.set("failures", str(kinds.count("failure")))
    element.set("errors", str(kinds.count("error")))


def _seconds(duration: float) -> str:
    return f"{duration:.3f}"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
