"""Convert errors of libraries to failures that say what is wrong and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import SkipTest

from smoketest.isolation import IsolationError

#: Maximum length of a library's error message, in characters.
_MAX_LENGTH = 600

_STALE = (
    "The mount is stale, since its server is gone: remount it (umount --lazy, then mount), and"
    " restart the processes that still use it."
)
_FULL = "It is full: free space (df -h) or inodes (df -i)."
_NO_PERMISSION = "The user of the site has no permission: check owners and modes (namei -l)."

#: Advice by error number of the operating system.
ADVICE = {
    errno.ENOTCONN: _STALE,
    errno.ESTALE: _STALE,
    errno.EIO: "The device or its network connection fails: check dmesg, and remount it.",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "The quota of the user is exhausted: free space, or raise the quota.",
    errno.EROFS: "It is mounted read-only, often after a disk error: check dmesg.",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.ENOTDIR: "A part of the path is not a directory.",
    errno.ENOENT: "A directory is missing: is its volume mounted?",
}


@contextmanager
def failing(what: str, advice: str) -> Iterator[None]:
    """Convert an error to a failure with the text: what is wrong, the error, and advice."""
    try:
        yield
    except (AssertionError, SkipTest, IsolationError):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        raise AssertionError(
            f"{what}: {describe_error(error)} {ADVICE.get(code or 0, advice)}"
        ) from error


def describe_error(error: BaseException) -> str:
    """Return the type and message of an error as one line that ends with a full stop."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    text = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def format_size(count: float) -> str:
    """Return a number of bytes with a unit, such as 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
