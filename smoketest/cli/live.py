"""Live display of a run on a terminal: progress, running tests and failures.

It requires rich (``pip install "django-smoketest[rich]"``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from smoketest.cli.display import WAITING, line
from smoketest.results import Event, Finished, Listener, Running, Started, Waiting

#: Maximum number of running tests that are displayed.
SHOWN = 8
#: Refreshes per second.
PER_SECOND = 8


def can_show(console: Console) -> bool:
    """Return whether the console is a terminal that supports cursor movement."""
    return console.is_terminal and not console.is_dumb_terminal


def make_console(stream: IO[str], *, with_colors: bool) -> Console:
    return Console(file=stream, no_color=not with_colors, highlight=False)


@contextmanager
def live(console: Console) -> Iterator[Listener]:
    """Display events while the context is active; lines of failed tests remain afterwards."""
    run = _Run(console)
    try:
        yield run.handle
    finally:
        run.hide()


class _Run:
    """State of the display: updated by the threads of the run, rendered by the thread of rich."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._message = ""
        self._total = 0
        #: Ids of tests without a result. Class fixtures, which also have results, are not included.
        self._pending: set[str] = set()
        #: Start times of the running tests, by the monotonic clock.
        self._running: dict[str, float] = {}
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def handle(self, event: Event) -> None:
        with self._lock:
            match event:
                case Waiting():
                    self._message = WAITING
                    self._live.start()
                case Started(test_ids):
                    self._message, self._total = "", len(test_ids)
                    self._pending = set(test_ids)
                    self._running.clear()
                    self._live.start()
                case Running(test_id):
                    self._running[test_id] = time.monotonic()
                case Finished(result):
                    self._pending.discard(result.id)
                    self._running.pop(result.id, None)
        if isinstance(event, Finished):
            if event.result.is_problem:
                style = "red" if event.result.is_critical else "yellow"
                self._console.print(Text(line(event.result), style=style))
            if not self._pending:
                self.hide()  # before other code, such as a logger, writes to the terminal

    def hide(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        running = sorted(self._running.copy().items(), key=lambda item: item[1])
        message, total = self._message, self._total
        done = total - len(self._pending)
        if message:
            return Text(message)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=40),
            Text(f"{done} of {total} tests"),
        )
        rows = Table.grid(padding=(0, 1))
        now = time.monotonic()
        for test_id, started in running[:SHOWN]:
            rows.add_row(Text(f"{now - started:6.1f} s", style="cyan"), Text(test_id))
        more = len(running) - SHOWN
        return Group(head, rows, *([Text(f"and {more} more")] if more > 0 else []))
