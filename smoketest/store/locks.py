"""Locks shared by all processes of a host, released when the process ends."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from smoketest.store.directory import StateError, StateFolder, advice

_POLL_SECONDS = 0.05

#: State folders with locks that this process has used.
_folders: set[Path] = set()


def _is_shown(record: logging.LogRecord) -> bool:
    """Return whether a log record is not one of filelock about a lock of smoke tests.

    filelock logs several messages at the level DEBUG for each use of a lock, of which a run has
    many.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    folders = (Path(str(argument)).parent for argument in arguments)
    return record.levelno > logging.DEBUG or _folders.isdisjoint(folders)


logging.getLogger("filelock").addFilter(_is_shown)


class Lock(ABC):
    """A lock that is not reentrant and that any thread may release."""

    @abstractmethod
    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        """Return a function that releases the lock, or None after `timeout` seconds."""

    @contextmanager
    def held(self, timeout: float = 0.0) -> Iterator[bool]:
        """Hold the lock in a ``with`` block; the value is False after `timeout` seconds."""
        release = self.acquire(timeout)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()


class ProcessLock(Lock):
    """A lock between the threads of this process; used without a state folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        return self._lock.release if self._lock.acquire(timeout=timeout) else None


class HostLock(Lock):
    """A lock between all processes that share a state folder.

    Two `acquire` calls exclude each other even on the same object. They raise
    `smoketest.store.directory.StateError` if the folder cannot be used.
    """

    def __init__(self, folder: StateFolder, name: str) -> None:
        self._folder = folder
        self._name = f"{name}.lock"

    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        path = self._folder.file(self._name)
        _folders.add(path.parent)
        lock = FileLock(path, mode=self._folder.file_mode, thread_local=False)
        try:
            lock.acquire(timeout, poll_interval=_POLL_SECONDS)
        except Timeout:
            return None
        except OSError as error:
            raise StateError(advice(f"{path} cannot be locked: {error.strerror}")) from error
        return lock.release
