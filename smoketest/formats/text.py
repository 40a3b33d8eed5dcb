"""Plain text format: the lines of django-smoketest 1.x; others are added only if needed."""

from __future__ import annotations

from smoketest.coordination.coordinator import Answer
from smoketest.formats.counts import count, errored_lines, failed_lines
from smoketest.results import utc
from smoketest.runner.failures import escape_controls

#: Prefix of the messages of warnings.
WARNING_MARK = "[warning] "


def render(answer: Answer, *, with_tracebacks: bool) -> str:  # noqa: ARG001 - has no tracebacks
    """Render a report."""
    report, pause = answer.report, answer.pause
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
        lines.append(f"paused until {utc(pause.until)}: {escape_controls(pause.reason)}")
    if report.warnings:
        lines.append(f"warnings: {len(report.warnings)}")
    lines.append(f"time: {report.duration * 1000:f}ms")
    paragraphs = (
        "\n".join(lines),
        "\n\n".join(map(escape_controls, failed_lines(report, mark=WARNING_MARK))),
        "\n\n".join(map(escape_controls, errored_lines(report, mark=WARNING_MARK))),
    )
    return "\n\n".join(paragraphs)


def render_error(status: int, message: str) -> str:  # noqa: ARG001 - the same for each status
    """Render an error as a line."""
    return f"{escape_controls(message)}\n"
