"""Output of ``manage.py smoketest``: progress, messages and the report."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from django.core.management.base import OutputWrapper
from django.core.management.color import Style, no_style

from smoketest import metrics, services
from smoketest.cli import display, output
from smoketest.cli.arguments import PROMETHEUS, Options
from smoketest.coordination.coordinator import Answer
from smoketest.formats import COMMAND_FORMATS, STREAMED_FORMATS, TEXT
from smoketest.results import Event, Listener, Result, ignore_events
from smoketest.runner.failures import escape_controls

Paint = Callable[[str], str]

try:
    from smoketest.cli import live
except ImportError:  # rich is optional, and may be broken
    HAS_RICH = False
else:
    HAS_RICH = True


def write(stream: OutputWrapper, text: str) -> None:
    """Write to a stream of the command, and ignore a closed pipe, such as that of ``head``.

    Raises `smoketest.cli.output.OutputError` if the stream is closed or cannot be written for
    another reason, such as a full disk.
    """
    if getattr(stream, "_out", None) is None:  # Python has no stream for a closed descriptor
        msg = "The output cannot be written: it is closed. Redirect it, for example to /dev/null."
        raise output.OutputError(msg)
    try:
        try:
            stream.write(text, str, ending="")
        except UnicodeEncodeError:  # the encoding of the locale does not support all characters
            stream.write(text.encode("ascii", "backslashreplace").decode(), str, ending="")
        stream.flush()
    except OSError as error:
        # Keeps Python from flushing the stream at exit, which would print an error.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            msg = f"The output cannot be written: {error.strerror}."
            raise output.OutputError(msg) from error


class Screen:
    """Standard output for the report, and standard error for progress and messages.

    Each has colors according to the rules of Django.
    """

    def __init__(
        self,
        stdout: OutputWrapper,
        stderr: OutputWrapper,
        style: Style,
        options: Options,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._format = options.format
        self._file = options.output
        #: A stability check prints a line per round instead of a line per test.
        self._prints_tests = options.verbosity > bool(options.until_stable)
        self._is_silent = not options.verbosity
        self._with_tracebacks = options.traceback or options.verbosity > 1
        #: The report shows the messages, unless it is in another format than text.
        self._with_messages = options.format != TEXT.name and not options.output
        if os.environ.get("NO_COLOR") and not options.force_color:  # https://no-color.org
            style = no_style()
        always = bool(options.force_color)
        self._report_style = style if always or stdout.isatty() else no_style()
        self._style = style if always or stderr.isatty() else no_style()
        self._render_event = STREAMED_FORMATS.get(options.format)
        #: Rendered events, to be written to a file at the end.
        self._lines: list[str] = []
        #: The error of a rendered event that was not written; the run continues and is recorded.
        self._error: output.OutputError | None = None

    @contextmanager
    def progress(self) -> Iterator[Listener]:
        """Display the events that the listener receives."""
        with self._display() as show:
            render_event = self._render_event
            if render_event is None:
                yield show
                return

            def listener(event: Event) -> None:
                show(event)
                self._add_line(render_event(event, with_tracebacks=True))

            yield listener

    def show(self, answer: Answer) -> None:
        """Print the report, or write it to a file and print it as text. Raise `OutputError`."""
        if self._error is not None:
            raise self._error
        if self._format != TEXT.name:
            content = self._render(answer)
            if not self._file:
                write(self._stdout, content)
                return
            output.write(self._file, content)
        plain = self._render_as(TEXT.name, answer)
        if self._file and self._format == TEXT.name:
            output.write(self._file, plain)
        write(self._stdout, self._colored(plain, answer))
        if self._with_tracebacks:
            for result in answer.report.problems:
                if result.traceback:
                    self.message(f"{result.id} {result.outcome.words}:")
                    self._write(result.traceback)

    def message(self, message: str, *, is_ok: bool | None = None) -> None:
        """Print a message to standard error; with ``--verbosity 0``, only errors."""
        if self._is_silent and is_ok is not False:
            return
        paints: dict[bool | None, Paint] = {
            True: self._style.SUCCESS,
            False: self._style.ERROR,
            None: str,
        }
        self._write(f"{paints[is_ok](escape_controls(message))}\n")

    def _write(self, text: str) -> None:
        """Write to standard error, whose loss must not change the result."""
        with suppress(output.OutputError):
            write(self._stderr, text)

    def _display(self) -> AbstractContextManager[Listener]:
        if self._is_silent or (self._render_event and not self._file):
            return nullcontext(ignore_events)
        if HAS_RICH and self._stderr.isatty() and sys.stderr.isatty():
            with_colors = self._style.SUCCESS("x") != "x"
            console = live.make_console(sys.stderr, with_colors=with_colors)
            if live.can_show(console):
                return live.live(console)
        if not self._prints_tests:
            return nullcontext(ignore_events)
        return display.lines(self._write_line, with_messages=self._with_messages)

    def _write_line(self, line: str, result: Result | None) -> None:
        paint: Paint = str
        if result is not None and result.is_problem:
            paint = self._style.ERROR if result.is_critical else self._style.WARNING
        self._write(f"{paint(line)}\n")

    def _render(self, answer: Answer) -> str:
        if self._format == PROMETHEUS:
            return metrics.expose(services.collector(), metrics.TEXT).decode()
        return "".join([*self._lines, self._render_as(self._format, answer)])

    def _render_as(self, format_name: str, answer: Answer) -> str:
        return f"{COMMAND_FORMATS[format_name](answer, with_tracebacks=True).rstrip()}\n"

    def _add_line(self, line: str) -> None:
        if self._file:
            self._lines.append(line)
        elif self._error is None:
            try:
                write(self._stdout, line)
            except output.OutputError as error:
                self._error = error

    def _colored(self, plain: str, answer: Answer) -> str:
        """Add colors to the status and the failures, and on a terminal the number of warnings."""
        style = self._report_style
        status, rest = re.sub(r"\n{3,}", "\n\n", plain).split("\n", 1)
        if (warnings := len(answer.report.warnings)) and self._stdout.isatty():
            status += f" ({warnings} warning{'s' * (warnings > 1)})"
        paint = style.SUCCESS if answer.report.passed else style.ERROR
        head, *problems = rest.split("\n\n")
        return "\n\n".join([f"{paint(status)}\n{head}", *map(style.ERROR, problems)])
