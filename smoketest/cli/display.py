"""Display the progress of a run as a line for each test."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from smoketest.results import (
    Event,
    Finished,
    Listener,
    Outcome,
    Result,
    Started,
    Waiting,
)
from smoketest.runner.failures import escape_controls, is_library_file

#: Function that writes a line; the result, if any, determines its color.
WriteLine = Callable[[str, Result | None], None]

WAITING = "Another run is in progress; waiting for it."


def lines(write: WriteLine, *, with_messages: bool = True) -> AbstractContextManager[Listener]:
    """Return a context manager whose listener writes a line for each finished test."""
    lock = threading.Lock()

    def listener(event: Event) -> None:
        with lock:
            match event:
                case Waiting():
                    write(WAITING, None)
                case Started(test_ids):
                    tests = "test" if len(test_ids) == 1 else "tests"
                    write(f"Running {len(test_ids)} {tests}.", None)
                case Finished(result):
                    write(line(result, with_message=with_messages), result)
                case _:
                    pass

    return nullcontext(listener)


def line(result: Result, *, with_message: bool = True) -> str:
    """Format a result as ``failed    shop.smoke.OrderTest.test_it (0.123 s): the message``.

    A problem has the location of its failure, such as ``shop/smoke.py:12``.
    """
    text = f"{result.outcome.words:<9} {result.id}"
    if result.outcome not in {Outcome.SKIPPED, Outcome.NOT_RUN}:
        text += f" ({result.duration:.3f} s)"
    if result.is_problem and not result.is_critical:
        text += " [warning]"
    if result.is_problem and (where := location(result.traceback)):
        text += f" at {where}"
    if not with_message:
        return text
    message = escape_controls(" ".join(result.message.split()))
    return f"{text}: {message}" if message else text


_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)', re.MULTILINE)


def location(traceback: str) -> str:
    """Return the file and line of the last frame of the site, relative to the current directory.

    Without such a frame, it is the last frame of a library.
    """
    frames = _FRAME.findall(traceback)
    if not frames:
        return ""
    path, line_number = next((frame for frame in reversed(frames) if _is_own(*frame)), frames[-1])
    if Path(path).is_relative_to(Path.cwd()):
        path = str(Path(path).relative_to(Path.cwd()))
    return f"{path}:{line_number}"


def _is_own(filename: str, _line_number: str) -> bool:
    # <string> and <frozen importlib._bootstrap> are no absolute paths.
    return Path(filename).is_absolute() and not is_library_file(filename)
