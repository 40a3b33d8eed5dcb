"""Tests whose threads were given up on and still live, in whichever process of the host.

Each is a locked file in the state folder: the end of its process releases the lock, so that
nothing has to be cleaned up after a crash.
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
    """Those of this process alone, for a process without a state folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, float]] = {}

    def running(self) -> Mapping[str, float]:
        """Test ids, and the Unix time at which each began."""
        with self._lock:
            return {test: at for tests in self._held.values() for test, at in tests.items()}

    def count(self) -> int:
        """How many threads there are."""
        with self._lock:
            return len(self._held)

    def hold(self, test_ids: Collection[str], started_at: float) -> Callable[[], None]:
        """Remember the tests of one thread until the function that is returned is called."""
        key = secrets.token_hex(8)
        with self._lock:
            self._held[key] = dict.fromkeys(test_ids, started_at)

        def release() -> None:
            with self._lock:
                del self._held[key]

        return release


class AbandonedOnHost:
    """Those of all processes that share a state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def running(self) -> Mapping[str, float]:
        """Test ids, and the Unix time at which each began."""
        running: dict[str, float] = {}
        for path in self._held_files():
            try:
                running |= json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # released at this moment
        return running

    def count(self) -> int:
        """How many threads there are."""
        return len(self._held_files())

    def hold(self, test_ids: Collection[str], started_at: float) -> Callable[[], None]:
        """Remember the tests of one thread until the function that is returned is called.

        Raises nothing: a test is over all the same if that cannot be written down.
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
        """The files whose lock is held; what a dead process left is removed."""
        held = []
        try:
            names = os.listdir(self._folder.path)  # noqa: PTH208 - at each scrape
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
                continue  # it cannot be told, and a scrape must not fail for that
            if not was_free:
                held.append(path)
        return held
