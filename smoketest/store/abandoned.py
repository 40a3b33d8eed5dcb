"""Registries of abandoned tests whose threads are still running.

On a host, each abandoned thread is a locked file in the state folder. The operating system releases
the lock when the process ends, so a crash needs no cleanup.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from smoketest.store.directory import StateError, StateFolder
from smoketest.store.locks import HostLock

_PREFIX = "abandoned-"


class LocallyAbandoned:
    """Abandoned tests of this process; used without a state folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, float]] = {}

    def running(self) -> Mapping[str, float]:
        """Return the test ids with the Unix time at which each started."""
        with self._lock:
            return {test: at for tests in self._held.values() for test, at in tests.items()}

    def count(self) -> int:
        """Return the number of abandoned threads."""
        with self._lock:
            return len(self._held)

    def hold(self, test_ids: Collection[str], started_at: float) -> Callable[[], None]:
        """Add the tests of one thread; calling the returned function removes them."""
        key = secrets.token_hex(8)
        with self._lock:
            self._held[key] = dict.fromkeys(test_ids, started_at)

        def release() -> None:
            with self._lock:
                del self._held[key]

        return release


class AbandonedOnHost:
    """Abandoned tests of all processes that share a state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def running(self) -> Mapping[str, float]:
        """Return the test ids with the Unix time at which each started."""
        running: dict[str, float] = {}
        for path in self._held_files():
            try:
                running |= json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # released meanwhile
        return running

    def count(self) -> int:
        """Return the number of abandoned threads."""
        return len(self._held_files())

    def hold(self, test_ids: Collection[str], started_at: float) -> Callable[[], None]:
        """Add the tests of one thread; calling the returned function removes them.

        Never raises an exception: the run continues even if the file cannot be written.
        """
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            release_lock = HostLock(self._folder, name).acquire()
            path = self._folder.file(f"{name}.json")
            path.write_text(json.dumps(dict.fromkeys(test_ids, started_at)))
        except (OSError, StateError):
            return lambda: None

        def release() -> None:
            path.unlink(missing_ok=True)
            (self._folder.path / f"{name}.lock").unlink(missing_ok=True)
            if release_lock is not None:
                release_lock()

        return release

    def _held_files(self) -> list[Path]:
        """Return the files whose lock is held, and delete those of processes that have ended."""
        held = []
        try:
            names = os.listdir(self._folder.path)  # noqa: PTH208 - called at each scrape, and faster
        except OSError:
            return []
        for name in names:
            if not (name.startswith(_PREFIX) and name.endswith(".json")):
                continue
            path = self._folder.path / name
            try:
                with HostLock(self._folder, path.stem).held() as was_free:
                    if was_free:
                        path.unlink(missing_ok=True)
                        (self._folder.path / f"{path.stem}.lock").unlink(missing_ok=True)
            except (OSError, StateError):
                continue  # unknown, but a scrape must not fail
            if not was_free:
                held.append(path)
        return held
