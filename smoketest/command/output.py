"""Writes what the command was asked for, in whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


class OutputError(Exception):
    """The file cannot be written; the message says why and what to do."""


def check(path: Path) -> None:
    """Raise `OutputError` where `write` would, before the tests run for nothing."""
    if path.is_dir():
        msg = f"{path} is a folder; give the path of a file in it."
        raise OutputError(msg)
    if not os.access(path.parent, os.W_OK):
        raise OutputError(_advice(path, "its folder does not exist, or is not for this user"))


def write(path: Path, content: str) -> None:
    """Replace the file in one step, so that nobody reads half of it. Raises `OutputError`."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(_advice(path, str(error.strerror))) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(descriptor, 0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise OutputError(_advice(path, str(error.strerror))) from error


def _umask() -> int:
    """What the process takes from the rights of new files; only by setting it can it be read."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _advice(path: Path, problem: str) -> str:
    return f"{path} cannot be written: {problem}. Give the path of a file in a folder that exists."
