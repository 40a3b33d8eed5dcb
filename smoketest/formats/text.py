"""Plain text format: the lines of django-smoketest 1.x; others are added only if needed."""

from __future__ import annotations

from smoketest.formats.counts import count, errored_lines, failed_lines
from smoketest.results import Report, utc
from smoketest.store import Pause

#: Prefix of the messages of warnings.
WARNING_MARK = "[warning] "


def render(report: Report, *, pause: Pause | None = None) -> str:
    counts = count(report)
    lines = [
        report.status,
        f"test classes: {counts.classes}",
        f"tests run: {counts.run}",
        f"tests passed: {counts.passed}",
        f"tests failed: {counts.failed}",
        f"tests errored: {counts.errored}",
    ]
    if counts.skipped:
        lines.append(f"tests skipped: {counts.skipped}")
    if counts.not_run:
        lines.append(f"tests not run: {counts.not_run}")
    if pause:
        lines.append(f"paused until {utc(pause.until)}: {pause.reason}")
    if report.warnings:
        lines.append(f"warnings: {len(report.warnings)}")
    lines.append(f"time: {report.duration * 1000:f}ms")
    paragraphs = (
        "\n".join(lines),
        "\n\n".join(failed_lines(report, mark=WARNING_MARK)),
        "\n\n".join(errored_lines(report, mark=WARNING_MARK)),
    )
    return "\n\n".join(paragraphs)
