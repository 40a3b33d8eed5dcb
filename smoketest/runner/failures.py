"""Convert exceptions of tests to the text fields of a result.

An exception may have a ``__str__`` that raises, a huge message, or characters that cannot be
encoded. None of these may break the run, the results store or an output format.
"""

from __future__ import annotations

import contextlib
import importlib
import linecache
import os
import sys
import threading
import traceback
import unittest
from pathlib import Path
from types import FrameType
from typing import TypedDict

from smoketest.case import AssertionMessage

#: Maximum lengths in characters.
MESSAGE_LIMIT = 4_000
TRACEBACK_LIMIT = 20_000
_STACK_HEADER = "Stack when it timed out (most recent call last):"

#: Files and folders whose frames are omitted from tracebacks, like those of the import system.
_INTERNAL_FILES = {threading.__file__, importlib.__file__, contextlib.__file__}
_INTERNAL_FOLDERS = {
    Path(unittest.__file__).parent,
    Path(__file__).parent,
    Path(__file__).parents[1],
    Path(__file__).parents[1] / "isolation",
}


class Failure(TypedDict):
    """The fields of a `smoketest.results.Result` that describe an exception."""

    message: str
    public_message: str
    exception: str
    traceback: str


def from_exception(error: BaseException) -> Failure:
    """Return the message, class name and traceback of an exception, truncated and encodable."""
    name = type(error).__qualname__
    return Failure(
        message=_message(error, name),
        public_message=clean(name, MESSAGE_LIMIT),
        exception=clean(name, MESSAGE_LIMIT),
        traceback=_traceback(error),
    )


def from_assertion(error: BaseException, test_id: str) -> Failure:
    """Return the failure of a test, with the message that its author has passed."""
    return {**from_exception(error), "public_message": _authored_message(error, test_id)}


def from_message(message: str) -> Failure:
    """Return a failure without an exception. The message must not contain data of the site."""
    text = clean(message, MESSAGE_LIMIT)
    return Failure(message=text, public_message=text, exception="", traceback="")


def with_prefix(prefix: str, failure: Failure) -> Failure:
    """Return the failure with a prefix of its messages that contains no data of the site."""
    return {
        **failure,
        "message": f"{prefix}: {failure['message']}",
        "public_message": f"{prefix}: {failure['public_message']}".removesuffix(": "),
    }


def from_thread(message: str, thread_ident: int | None) -> Failure:
    """Return a failure with the current stack of a thread, if it is still running."""
    frame = sys._current_frames().get(thread_ident or 0)
    if frame is None:
        return from_message(message)
    stack = traceback.extract_stack(frame)
    shown = traceback.StackSummary.from_list(_without_internals(stack))
    where = clean("".join(shown.format()), TRACEBACK_LIMIT)
    return {**from_message(message), "traceback": f"{_STACK_HEADER}\n{where}"}


def clean(text: str, limit: int) -> str:
    """Return the text truncated in the middle to `limit` characters, and encodable as UTF-8."""
    if len(text) > limit:
        head, tail = text[: limit // 2], text[-(limit // 2) :]
        text = f"{head}\n[... {len(text) - len(head) - len(tail)} characters left out ...]\n{tail}"
    return encodable(text)


def encodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode with question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


#: Control characters except tabs, line separators, and marks that change the direction of text.
_CONTROLS = [
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"),
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
]
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


def escape_controls(text: str) -> str:
    """Escape characters that a terminal or a log would interpret: a newline becomes ``\\n``.

    A message could otherwise forge lines of the report or of the log (CWE-117), move the cursor, or
    change the order in which text is displayed (https://www.unicode.org/reports/tr9/).
    """
    return text.translate(_ESCAPES)


def is_interrupt(error: BaseException) -> bool:
    """Return whether `error` is Ctrl-C at the terminal and not an exception of a test."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and on_main_thread


def _message(error: BaseException, name: str) -> str:
    """Return the message of an exception, with the class name if the message is not enough."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - a test may raise anything
        text = f"{name} (its message cannot be shown: {type(broken).__qualname__})"
    if not text.strip():
        text = _assert_statement(error) or name
    elif isinstance(error, KeyError):  # str() is only the repr of the key
        text = f"{name}: {text}"
    return clean(text, MESSAGE_LIMIT)


def _assert_statement(error: BaseException) -> str:
    """Return the ``assert`` statement that failed, on one line, or an empty string."""
    if not isinstance(error, AssertionError) or error.__traceback__ is None:
        return ""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    first, last = frame.lineno or 0, frame.end_lineno or 0
    lines = [linecache.getline(frame.filename, line).strip() for line in range(first, last + 1)]
    statement = " ".join(lines)
    return statement if statement.startswith("assert ") else ""


#: Modules whose functions raise the exceptions of assertions.
_ASSERTIONS = {"unittest.case", "unittest._log", AssertionMessage.__module__}
_DJANGO_ASSERTIONS = "django.test.testcases"
_OWN_PACKAGE = __name__.partition(".")[0]
_STANDARD_LIBRARY = Path(os.__file__).parent
_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}


def _authored_message(error: BaseException, test_id: str) -> str:
    """Return the message that the author of a test has passed to an assertion, or "".

    The other messages are those that unittest composes, and those that libraries raise or pass to
    an assertion, such as `unittest.mock`. They contain values of the site.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assertions = []
    while frames and frames[-1].f_globals.get("__name__") in _ASSERTIONS:
        assertions.append(frames.pop().f_code.co_name)
    django_assertion = None
    while frames and frames[-1].f_globals.get("__name__") == _DJANGO_ASSERTIONS:
        django_assertion = frames.pop()
    if not frames or _is_of_library(frames[-1], test_id):
        return ""
    if django_assertion is not None:
        return _passed_message(django_assertion)
    message = error.args[0] if error.args else ""
    if isinstance(message, AssertionMessage):
        return clean(message.authored, MESSAGE_LIMIT)
    # unittest passes other strings to fail(), too.
    is_authored = bool(error.args) and assertions in ([], ["fail"])
    return _message(error, "").strip() if is_authored and message is not None else ""


def _passed_message(assertion: FrameType) -> str:
    """Return the message that was passed to an assertion of Django; an argument, if it has one."""
    code = assertion.f_code
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = next((name for name in ("msg_prefix", "msg") if name in arguments), None)
    passed = assertion.f_locals[name] if name else None
    # Some assertions append a colon to the prefix.
    return clean(passed.removesuffix(": "), MESSAGE_LIMIT) if isinstance(passed, str) else ""


def _is_of_library(frame: FrameType, test_id: str) -> bool:
    """Return whether the code was written neither for the site nor by the author of the test."""
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if package in {test_id.partition(".")[0], _OWN_PACKAGE}:
        return False
    return is_library_file(frame.f_code.co_filename)


def is_library_file(filename: str) -> bool:
    """Return whether a source file belongs to Python or to an installed package."""
    path = Path(filename)
    return path.is_relative_to(_STANDARD_LIBRARY) or not _PACKAGE_FOLDERS.isdisjoint(path.parts)


def _traceback(error: BaseException) -> str:
    try:
        rendered = traceback.TracebackException.from_exception(error, compact=True)
        _remove_internals(rendered)
        return clean("".join(rendered.format()), TRACEBACK_LIMIT)
    except BaseException as broken:  # noqa: BLE001 - such as a RecursionError near the limit
        name = type(broken).__qualname__
        return clean(f"(the traceback cannot be shown: {name})", TRACEBACK_LIMIT)


def _remove_internals(rendered: traceback.TracebackException) -> None:
    """Remove internal frames from the exception, its causes and the exceptions of a group."""
    pending = [rendered]
    while pending:
        shown = pending.pop()
        shown.stack = traceback.StackSummary.from_list(_without_internals(shown.stack))
        others = (shown.__cause__, shown.__context__, *(shown.exceptions or ()))
        pending += [other for other in others if other is not None]


def _without_internals(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Return the frames outside of this package and unittest, or all if there are none."""
    external = [
        frame
        for frame in stack
        if Path(frame.filename).parent not in _INTERNAL_FOLDERS
        and frame.filename not in _INTERNAL_FILES
        and not frame.filename.startswith("<frozen importlib")
    ]
    return external or list(stack)
