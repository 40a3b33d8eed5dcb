"""Atomic writes of output files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class OutputError(Exception):
    """The file cannot be written; the message includes the reason and a solution."""


def check(path: Path) -> None:
    """Raise `OutputError` if the file cannot be written, so that the command fails early."""
    if path.is_dir():
        msg = f"{path} is a directory; use the path of a file."
        raise OutputError(msg)
    if _is_device(path):
        return
    folder = path.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise OutputError(_advice(path, "its directory does not exist or is not writable"))


def write(path: Path, content: str) -> None:
    """Replace the file atomically. Raise `OutputError`.

    If the path is a symbolic link, its target is replaced. A device or a pipe, such as
    ``/dev/stdout``, is written to directly.
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
    """Return whether the path exists and is not a regular file."""
    return path.exists() and not path.is_file()


def _umask() -> int:
    """Return the umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _advice(path: Path, problem: str) -> str:
    return f"{path} cannot be written: {problem}. Choose a directory that exists and is writable."
