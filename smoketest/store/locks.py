"""Locks that all processes of a host share and that the end of a process releases."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from smoketest.store.directory import StateError, StateFolder, advice

_POLL_SECONDS = 0.05


class Lock(ABC):
    """A lock that is not reentrant and belongs to no thread: any may release it."""

    @abstractmethod
    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        """What releases the lock, or None if others held it for `timeout` seconds."""

    @contextmanager
    def held(self, timeout: float = 0.0) -> Iterator[bool]:
        """Hold the lock, if it can be had within `timeout` seconds; gives whether it could."""
        release = self.acquire(timeout)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()


class ProcessLock(Lock):
    """Among the threads of this process alone, where there is no state folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        return self._lock.release if self._lock.acquire(timeout=timeout) else None


class HostLock(Lock):
    """Among all processes that share a state folder; each `acquire` is a holder of its own.

    Raises `smoketest.store.directory.StateError` where the folder cannot be used.
    """

    def __init__(self, folder: StateFolder, name: str) -> None:
        self._folder = folder
        self._name = f"{name}.lock"

    def acquire(self, timeout: float = 0.0) -> Callable[[], None] | None:
        path = self._folder.file(self._name)
        lock = FileLock(path, mode=self._folder.file_mode, thread_local=False)
        try:
            lock.acquire(timeout, poll_interval=_POLL_SECONDS)
        except Timeout:
            return None
        except OSError as error:
            raise StateError(advice(f"{path} cannot be locked: {error.strerror}")) from error
        return lock.release
