"""Tests of `smoketest.runner.failures`."""

from __future__ import annotations

import contextlib
import importlib
import re
import threading
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoketest import tag
from smoketest.isolation.connection import private_connection
from smoketest.runner.failures import (
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    clean,
    escape_controls,
    from_exception,
    from_message,
    from_thread,
    is_interrupt,
)
from tests.builders import PROPERTY

MEGABYTES = "x" * 10_000_000


class WithoutMessageError(Exception):
    """Exception whose ``__str__`` raises its first argument."""

    def __str__(self) -> NoReturn:
        raise self.args[0]


class WithoutCauseError(Exception):
    """Exception whose ``__cause__`` raises."""

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]
        raise RecursionError


def caught(raises: Callable[[], object]) -> BaseException:
    """Return the exception that the function raises, with its traceback."""
    try:
        raises()
    except BaseException as error:  # noqa: BLE001 - a test may raise any exception
        return error
    pytest.fail("nothing was raised")


def is_encodable(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode()


# Messages


@pytest.mark.parametrize(
    ("error", "message", "exception"),
    [
        (AssertionError("1 != 2"), "1 != 2", "AssertionError"),
        (KeyError("vote"), "KeyError: 'vote'", "KeyError"),
        (KeyError(), "KeyError", "KeyError"),
        (LookupError("vote"), "vote", "LookupError"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError(" \n\t"), "ValueError", "ValueError"),
        (OSError(28, "No space left"), "[Errno 28] No space left", "OSError"),
        (SystemExit(3), "3", "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (ValueError("a\0b\r\n\\😀"), "a\0b\r\n\\😀", "ValueError"),
        (ValueError("\ud800 \udc80"), "? ?", "ValueError"),
        (KeyError("\ud800"), "KeyError: '\\ud800'", "KeyError"),
        (KeyError("\ud800", 1), "KeyError: ('\\ud800', 1)", "KeyError"),
    ],
    ids=repr,
)
def test_from_exception__message(error: BaseException, message: str, exception: str) -> None:
    """The message is that of the exception, or its class name if the message is empty."""
    failure = from_exception(error)
    assert failure["message"] == message
    assert failure["exception"] == exception


@pytest.mark.parametrize("broken", [ValueError("oops"), SystemExit(1), KeyboardInterrupt()])
def test_from_exception__broken_str(broken: BaseException) -> None:
    """An exception whose ``__str__`` raises is reported by its class name."""
    failure = from_exception(caught(lambda: raise_(WithoutMessageError(broken))))
    name = type(broken).__name__
    assert failure["message"] == f"WithoutMessageError (its message cannot be shown: {name})"
    assert "WithoutMessageError" in failure["traceback"]


def test_from_exception__huge_message() -> None:
    """A long message is truncated in the middle with the number of removed characters."""
    failure = from_exception(caught(lambda: raise_(ValueError(f"begin{MEGABYTES}end"))))
    assert len(failure["message"]) < MESSAGE_LIMIT + 100
    assert failure["message"].startswith("beginxxx")
    assert failure["message"].endswith("xxxend")
    left_out = len(MEGABYTES) + len("beginend") - MESSAGE_LIMIT
    assert f"\n[... {left_out} characters left out ...]\n" in failure["message"]
    assert len(failure["traceback"]) < TRACEBACK_LIMIT + 100
    assert failure["traceback"].startswith("Traceback (most recent call last):\n")


def make_hostile(base: type[Exception], *arguments: object) -> Exception:
    """Return an exception whose class name is long and cannot be encoded."""
    name = f"\ud800{MEGABYTES}"
    hostile: Exception = type("Hostile", (base,), {"__qualname__": name})(*arguments)
    return hostile


@pytest.mark.parametrize(
    "error",
    [
        make_hostile(ValueError, "no"),
        make_hostile(ValueError),
        make_hostile(KeyError, "vote"),
        make_hostile(WithoutMessageError, OSError()),
        WithoutMessageError(make_hostile(ValueError)),
    ],
    ids=["message", "no message", "KeyError", "broken str", "raised by str"],
)
def test_from_exception__hostile_name(error: Exception) -> None:
    """A class name is sanitized and truncated like a message."""
    failure = from_exception(error)
    for text in (failure["message"], failure["exception"], failure["traceback"]):
        assert is_encodable(text)
        assert len(text) < TRACEBACK_LIMIT + 100
    assert len(failure["message"]) < MESSAGE_LIMIT + 100


def test_from_exception__qualified_name() -> None:
    class Outer:
        class InnerError(Exception):
            pass

    assert from_exception(Outer.InnerError("no"))["exception"].endswith("Outer.InnerError")


@PROPERTY
@given(st.text(st.characters()), st.integers(2, 40))
def test_clean__any_text(text: str, limit: int) -> None:
    """A short text is only made encodable; a long one keeps its beginning and end."""
    cleaned = clean(text, limit)
    safe = text.encode("utf-8", "replace").decode()
    assert is_encodable(cleaned)
    if len(text) <= limit:
        assert cleaned == safe
    else:
        half = limit // 2
        left_out = f"\n[... {len(text) - 2 * half} characters left out ...]\n"
        assert cleaned == f"{safe[:half]}{left_out}{safe[-half:]}"


def test_clean__limit() -> None:
    """A text of exactly the limit is not truncated."""
    assert clean("abcd", 4) == "abcd"
    assert clean("abcde", 4) == "ab\n[... 1 characters left out ...]\nde"


def test_from_message() -> None:
    """A failure without an exception has only a message."""
    assert from_message("not here \ud800") == {
        "message": "not here ?",
        "public_message": "not here ?",
        "exception": "",
        "traceback": "",
    }
    assert len(from_message(MEGABYTES)["message"]) < MESSAGE_LIMIT + 100


# Tracebacks


def raise_(error: BaseException) -> NoReturn:
    raise error


@contextlib.contextmanager
def no_op() -> Iterator[None]:
    yield


def shown_files(text: str) -> list[str]:
    """Return the file names of the frames of a traceback."""
    return [Path(name).name for name in re.findall(r'^[ |]*File "(.+?)"', text, re.MULTILINE)]


def in_unittest() -> None:
    unittest.TestCase().assertEqual(1, 2)


def in_contextlib() -> None:
    with no_op():
        raise_(ValueError("here"))


def in_threading() -> None:
    threading.Thread(target=raise_, args=[ValueError("here")]).run()


def in_the_package() -> None:
    tag("")


def in_the_isolation() -> None:
    private_connection(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raises", "internal_file"),
    [
        (in_unittest, "case.py"),
        (in_contextlib, "contextlib.py"),
        (in_threading, "threading.py"),
        (in_the_package, "case.py"),
        (in_the_isolation, "connection.py"),
    ],
)
def test_traceback__internal_frames(raises: Callable[[], None], internal_file: str) -> None:
    """Frames of unittest, the standard library and django-smoketest are removed."""
    failure = from_exception(caught(raises))
    assert f"in {raises.__name__}" in failure["traceback"]
    assert internal_file not in shown_files(failure["traceback"])
    assert failure["traceback"].rstrip().endswith(failure["message"])


def test_traceback__import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of the import system are removed."""
    (tmp_path / "broken_module.py").write_text("import broken_further_down\n")
    (tmp_path / "broken_further_down.py").write_text("raise OSError('not today')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    failure = from_exception(caught(lambda: importlib.import_module("broken_module")))
    assert shown_files(failure["traceback"]) == [
        Path(__file__).name,  # caught
        Path(__file__).name,  # the lambda
        "broken_module.py",
        "broken_further_down.py",
    ]


def test_traceback__only_internal_frames() -> None:
    """A traceback that consists only of internal frames is not emptied."""
    error = caught(in_the_package)
    while error.__traceback__ and error.__traceback__.tb_next:
        error.__traceback__ = error.__traceback__.tb_next
    failure = from_exception(error)
    assert shown_files(failure["traceback"]) == ["case.py"]
    assert "in tag" in failure["traceback"]


def test_traceback__never_raised() -> None:
    """An exception that was never raised has only the last line of a traceback."""
    assert from_exception(ValueError("no"))["traceback"] == "ValueError: no\n"


def test_traceback__cause() -> None:
    """The cause of an exception precedes it."""

    def chained() -> None:
        try:
            raise_(OSError("disk"))
        except OSError as error:
            raise ValueError("no votes") from error

    text = from_exception(caught(chained))["traceback"]
    parts = ["in raise_", "OSError: disk", "was the direct cause of", "ValueError: no votes\n"]
    assert sorted(parts, key=text.index) == parts


def test_traceback__context() -> None:
    """The context of an exception is included unless it is suppressed."""

    def chained(*, suppressed: bool) -> None:
        try:
            raise_(OSError("disk"))
        except OSError:
            if suppressed:
                raise ValueError("no votes") from None
            raise ValueError("no votes")  # noqa: B904 - the context is what is tested

    text = from_exception(caught(lambda: chained(suppressed=False)))["traceback"]
    assert text.index("OSError: disk") < text.index("During handling of the above exception")
    text = from_exception(caught(lambda: chained(suppressed=True)))["traceback"]
    assert "OSError" not in text


def test_traceback__internal_frames_of_cause() -> None:
    """Internal frames are removed from the cause, too."""

    def chained() -> None:
        try:
            in_the_package()
        except TypeError as error:
            raise ValueError("no votes") from error

    text = from_exception(caught(chained))["traceback"]
    assert "in in_the_package" in text
    assert "case.py" not in shown_files(text)


def test_traceback__group() -> None:
    """All exceptions of a group are included, without internal frames."""
    group = BaseExceptionGroup("both", [OSError("disk"), caught(in_the_package)])
    text = from_exception(caught(lambda: raise_(group)))["traceback"]
    assert "OSError: disk" in text
    assert "TypeError: tag()" in text
    assert "case.py" not in shown_files(text)


def test_traceback__circular_cause() -> None:
    """Exceptions that are each other's cause are included once."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert from_exception(first)["traceback"].count("ValueError: first") == 1


def test_traceback__long_chain() -> None:
    """A chain longer than the recursion limit is included completely."""
    error = ValueError("attempt 0")
    for number in range(1, 3_000):
        following = ValueError(f"attempt {number}")
        following.__context__, error = error, following
    text = from_exception(error)["traceback"]
    assert text.startswith("ValueError: attempt 0\n")
    assert text.endswith("ValueError: attempt 2999\n")


def test_traceback__notes() -> None:
    """Notes are included, with lone surrogates replaced."""
    error = ValueError("no")
    error.add_note("ask \ud800 the payments team")
    assert "ask ? the payments team" in from_exception(error)["traceback"]


def test_traceback__broken_cause() -> None:
    """An exception whose traceback cannot be formatted still has a message."""
    failure = from_exception(WithoutCauseError("no"))
    assert failure["message"] == "no"
    assert failure["traceback"].endswith("cannot be shown: RecursionError)")


def test_traceback__deep_recursion() -> None:
    """The traceback of an infinite recursion is short."""

    def deeper() -> None:
        deeper()

    failure = from_exception(caught(deeper))
    assert failure["exception"] == "RecursionError"
    assert "in deeper" in failure["traceback"]
    assert len(failure["traceback"]) < TRACEBACK_LIMIT + 100


# Threads


@contextlib.contextmanager
def running_thread(target: Callable[[threading.Event, threading.Event], Any]) -> Iterator[int]:
    """Run `target` in a thread, with an event to set at its start and one to wait for."""
    started, may_end = threading.Event(), threading.Event()
    thread = threading.Thread(target=target, args=[started, may_end], daemon=True)
    thread.start()
    assert started.wait(60)
    assert thread.ident is not None
    try:
        yield thread.ident
    finally:
        may_end.set()
        thread.join(60)


def hang_in_a_test(started: threading.Event, may_end: threading.Event) -> None:
    started.set()
    hang(may_end)


def hang(may_end: threading.Event) -> None:
    while not may_end.is_set():
        pass


def test_from_thread__alive() -> None:
    """The stack of a running thread is included, without the frames that started it."""
    with running_thread(hang_in_a_test) as ident:
        failure = from_thread("timed out after 1 s", ident)
    assert failure["message"] == "timed out after 1 s"
    assert failure["exception"] == ""
    assert failure["traceback"].startswith("Stack when it timed out (most recent call last):\n")
    functions = re.findall(r"^  File .* in (\w+)$", failure["traceback"], re.MULTILINE)
    assert functions[:2] == ["hang_in_a_test", "hang"]


def test_from_thread__ended() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert from_thread("timed out \ud800", thread.ident) == from_message("timed out ?")


def test_from_thread__never_started() -> None:
    assert from_thread("timed out", None) == from_message("timed out")


# Interrupts


def test_is_interrupt__main_thread() -> None:
    """In the main thread, only KeyboardInterrupt is an interrupt."""
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(SystemExit())
    assert not is_interrupt(ValueError())


def test_is_interrupt__other_thread() -> None:
    """In another thread, KeyboardInterrupt is an ordinary exception."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(is_interrupt(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert answers == [False]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\tb, \N{SNOWMAN} and é", "a\tb, \N{SNOWMAN} and é"),
        ("one\ntwo\r\n", r"one\ntwo\r\n"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x00\x7f\x85\x9b", r"\x00\x7f\x85\x9b"),
        ("\u202eevil\u2066\u200f\u061c", r"\u202eevil\u2066\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
    ],
)
def test_escape_controls(text: str, escaped: str) -> None:
    assert escape_controls(text) == escaped
