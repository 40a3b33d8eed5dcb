"""Errors of other libraries as failures that say what is wrong and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import SkipTest

from smoketest.isolation import IsolationError

#: Characters of a library's own message.
_LONGEST = 600

_STALE = (
    "The mount is stale, since its server is gone: mount it again (umount --lazy, then mount), and"
    " restart what still holds it."
)
_FULL = "It is full: free some space (df -h), or inodes (df -i)."
_NOT_ALLOWED = "The user that the site runs as may not: look at owner and mode (namei -l)."

#: What to do about the errors that an operating system reports of files.
ADVICE = {
    errno.ENOTCONN: _STALE,
    errno.ESTALE: _STALE,
    errno.EIO: "The device or the network behind it fails: look at dmesg, and mount it again.",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "The quota of the site's user is used up: free some space, or raise it.",
    errno.EROFS: "It is mounted read-only, often after an error of the disk: look at dmesg.",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENOTDIR: "A part of the path is no folder.",
    errno.ENOENT: "A folder is missing: is its volume mounted?",
}


@contextmanager
def failing(what: str, advice: str) -> Iterator[None]:
    """Any error becomes a failure: what is wrong, what the library said, and what to do next."""
    try:
        yield
    except (AssertionError, SkipTest, IsolationError):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        raise AssertionError(f"{what}: {said(error)} {ADVICE.get(code or 0, advice)}") from error


def said(error: BaseException) -> str:
    """The name and the message of an error in one line, with a full stop."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def size(count: float) -> str:
    """A number of bytes as people write it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
