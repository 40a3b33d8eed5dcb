"""Turn whatever a test raised into the words of a report.

An exception may have a ``__str__`` that raises, a message of megabytes or characters that no
encoding holds. None of that may hurt the run, the store or a reader.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import traceback
import unittest
from pathlib import Path
from typing import TypedDict

MESSAGE_LIMIT = 4_000
TRACEBACK_LIMIT = 20_000

#: Frames of these files, of files in these folders and of the import system say nothing about the
#: test.
_MACHINERY_FILES = {threading.__file__, importlib.__file__, contextlib.__file__}
_MACHINERY = {
    Path(unittest.__file__).parent,
    Path(__file__).parent,
    Path(__file__).parents[1],
    Path(__file__).parents[1] / "isolation",
}


class Failure(TypedDict):
    """The fields of a `smoketest.results.Result` that describe an exception."""

    message: str
    exception: str
    traceback: str


def from_exception(error: BaseException) -> Failure:
    """The message, the class name and the traceback of an exception, each safe to keep."""
    name = type(error).__qualname__
    return Failure(
        message=_message(error, name),
        exception=clean(name, MESSAGE_LIMIT),
        traceback=_traceback(error),
    )


def from_message(message: str) -> Failure:
    """Words where there is no exception."""
    return Failure(message=clean(message, MESSAGE_LIMIT), exception="", traceback="")


def from_thread(message: str, thread_ident: int | None) -> Failure:
    """Words, and where the thread is at this moment, if the interpreter can tell."""
    frame = sys._current_frames().get(thread_ident or 0)
    if frame is None:
        return from_message(message)
    stack = traceback.extract_stack(frame)
    shown = traceback.StackSummary.from_list(_without_machinery(stack))
    where = clean("".join(shown.format()), TRACEBACK_LIMIT)
    return {**from_message(message), "traceback": f"It was here (most recent call last):\n{where}"}


def clean(text: str, limit: int) -> str:
    """The text in characters that UTF-8 can encode, its middle left out beyond the limit."""
    if len(text) > limit:
        head, tail = text[: limit // 2], text[-(limit // 2) :]
        text = f"{head}\n[... {len(text) - len(head) - len(tail)} characters left out ...]\n{tail}"
    return encodable(text)


def encodable(text: str) -> str:
    """The text, with a question mark for each character that UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def is_interrupt(error: BaseException) -> bool:
    """Whether it is the Ctrl-C of the person at the terminal, not an exception of a test."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and on_main_thread


def _message(error: BaseException, name: str) -> str:
    """What the exception says; with its name in front where that alone would say too little."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - a test may raise anything
        text = f"{name} (its message cannot be shown: {type(broken).__qualname__})"
    if not text.strip():
        text = name
    elif isinstance(error, KeyError):  # str() gives the bare repr of the key
        text = f"{name}: {text}"
    return clean(text, MESSAGE_LIMIT)


def _traceback(error: BaseException) -> str:
    try:
        rendered = traceback.TracebackException.from_exception(error, compact=True)
        _hide_machinery(rendered)
        return clean("".join(rendered.format()), TRACEBACK_LIMIT)
    except BaseException as broken:  # noqa: BLE001 - such as a RecursionError near the limit
        name = type(broken).__qualname__
        return clean(f"(the traceback cannot be shown: {name})", TRACEBACK_LIMIT)


def _hide_machinery(rendered: traceback.TracebackException) -> None:
    """In the exception itself, and in those that it came from or holds."""
    pending = [rendered]
    while pending:
        shown = pending.pop()
        shown.stack = traceback.StackSummary.from_list(_without_machinery(shown.stack))
        others = (shown.__cause__, shown.__context__, *(shown.exceptions or ()))
        pending += [other for other in others if other is not None]


def _without_machinery(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """The frames of the test and of what it called; all of them if there are no such."""
    telling = [
        frame
        for frame in stack
        if Path(frame.filename).parent not in _MACHINERY
        and frame.filename not in _MACHINERY_FILES
        and not frame.filename.startswith("<frozen importlib")
    ]
    return telling or list(stack)
