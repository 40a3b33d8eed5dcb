"""Writes what the command was asked for, in whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class OutputError(Exception):
    """The file cannot be written; the message says why and what to do."""


def check(path: Path) -> None:
    """Raise `OutputError` where `write` would, before the tests run for nothing."""
    if path.is_dir():
        msg = f"{path} is a folder; give the path of a file in it."
        raise OutputError(msg)
    if _is_device(path):
        return
    folder = path.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise OutputError(_advice(path, "its folder does not exist, or is not for this user"))


def write(path: Path, content: str) -> None:
    """Replace the file in one step, so that nobody reads half of it. Raises `OutputError`.

    A link stays one, and so does a device or a pipe, such as ``/dev/stdout``.
    """
    try:
        if _is_device(path):
            path.write_text(content, encoding="utf-8")
        else:
            _replace(path.resolve(), content)
    except OSError as error:
        raise OutputError(_advice(path, str(error.strerror))) from error


def _replace(path: Path, content: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(descriptor, 0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether it is there and can only be written into, not replaced."""
    return path.exists() and not path.is_file()


def _umask() -> int:
    """What the process takes from the rights of new files; only by setting it can it be read."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _advice(path: Path, problem: str) -> str:
    return f"{path} cannot be written: {problem}. Give the path of a file in a folder that exists."
