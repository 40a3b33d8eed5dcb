"""JUnit XML, as Jenkins, GitLab and the actions of GitHub read it.

There is no specification; this keeps to the elements and attributes of the schema that Jenkins'
xUnit plugin publishes: https://github.com/jenkinsci/xunit-plugin (``junit-10.xsd``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree import ElementTree

from smoketest.results import Outcome, Report, Result

NAME = "smoke tests"
#: What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """One suite for each class.

    A warning that failed is skipped with its message: the readers know only tests that fail the
    build and tests that do not.
    """
    root = ElementTree.Element("testsuites", name=NAME, time=_seconds(report.duration))
    _count(root, report.results)
    by_class: dict[str, list[Result]] = {}
    for result in report.results:  # what came of tearDownClass stands behind all others
        by_class.setdefault(result.class_id, []).append(result)
    for class_id, results in by_class.items():
        _add_suite(root, class_id, results)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_suite(root: ElementTree.Element, class_id: str, results: list[Result]) -> None:
    began = datetime.fromtimestamp(min(result.started_at for result in results), UTC)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=_clean(class_id),
        time=_seconds(sum(result.duration for result in results)),
        timestamp=began.strftime("%Y-%m-%dT%H:%M:%S"),
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
        _add_outcome(case, result)


def _add_outcome(case: ElementTree.Element, result: Result) -> None:
    kind = _kind(result)
    if not kind:
        return
    words = result.message
    if result.is_problem and kind == "skipped":
        words = f"warning, {result.outcome}: {result.message}"
    elif result.outcome is Outcome.NOT_RUN:
        words = f"not run: {result.message}"
    element = ElementTree.SubElement(case, kind, message=_clean(words))
    if kind != "skipped":
        element.set("type", _clean(result.exception or result.outcome))
        element.text = _clean(result.traceback or result.message)


def _kind(result: Result) -> str:
    """The element that tells of an outcome; none for a test that passed."""
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
