"""Shows a run on a terminal, by rich: how far it is, what runs for how long, what has failed.

Only imported where rich is installed (``pip install "django-smoketest[rich]"``).
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

#: Running tests that are shown at most.
SHOWN = 8
PER_SECOND = 8


def can_show(console: Console) -> bool:
    """Whether it is a terminal on which lines can be changed."""
    return console.is_terminal and not console.is_dumb_terminal


def make_console(stream: IO[str], *, with_colours: bool) -> Console:
    return Console(file=stream, no_color=not with_colours, highlight=False)


@contextmanager
def live(console: Console) -> Iterator[Listener]:
    """Show events while the context lasts; what failed stays when it ends."""
    run = _Run(console)
    try:
        yield run.tell
    finally:
        run.hide()


class _Run:
    """What is known of the run; told by its threads, shown by that of rich."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._words = ""
        self._total = 0
        #: Tests without a result. Fixtures may have one as well, of which nobody knew before.
        self._pending: set[str] = set()
        #: When each began, by a clock that nobody sets.
        self._running: dict[str, float] = {}
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def tell(self, event: Event) -> None:
        with self._lock:
            match event:
                case Waiting():
                    self._words = WAITING
                    self._live.start()
                case Started(test_ids):
                    self._words, self._total = "", len(test_ids)
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
                self.hide()  # before others write to the terminal, such as a logger

    def hide(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        running = sorted(self._running.copy().items(), key=lambda item: item[1])
        words, total = self._words, self._total
        done = total - len(self._pending)
        if words:
            return Text(words)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=40),
            Text(f"{done} of {total} tests"),
        )
        rows = Table.grid(padding=(0, 1))
        now = time.monotonic()
        for test_id, began in running[:SHOWN]:
            rows.add_row(Text(f"{now - began:6.1f} s", style="cyan"), Text(test_id))
        more = len(running) - SHOWN
        return Group(head, rows, *([Text(f"and {more} more")] if more > 0 else []))
