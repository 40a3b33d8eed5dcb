"""The store in a file that all processes of the site on a host share.

SQLite in WAL mode, opened anew for each use, so that forked workers share nothing.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time, time_ns
from typing import Any

from smoketest.store.base import Render, ResultsStore, render_nothing
from smoketest.store.directory import StateError, StateFolder
from smoketest.store.locks import HostLock
from smoketest.store.records import StoreError
from smoketest.store.schema import SCHEMA_VERSION, make_schema, schema_version, set_metadata

logger = logging.getLogger("smoketest")

FILE_NAME = "results.sqlite3"
BUSY_TIMEOUT = 5.0
#: Nanoseconds since the last change of a file after which its state tells of any other change.
SETTLED_AFTER = 1_000_000_000

_FilesState = tuple[tuple[int, ...], ...]


class SharedStore(ResultsStore):
    """The store in the state folder of the site."""

    is_shared = True

    def __init__(self, folder: StateFolder, render: Render = render_nothing) -> None:
        super().__init__(render)
        self._folder = folder
        self._path = folder.path / FILE_NAME
        #: The facts, and the state of the files that they were read from.
        self._remembered: tuple[_FilesState, Mapping[str, Any]] | None = None

    def _read_metadata(self) -> Mapping[str, Any]:
        """Read them again only if a file of the store has changed: opening SQLite costs more."""
        before = self._files_state()
        if self._remembered is not None and self._remembered[0] == before:
            return self._remembered[1]
        facts = super()._read_metadata()
        changed_at = max((state[0] for state in before if state), default=0)
        # Two changes within one tick of the file system's clock look like one.
        if before == self._files_state() and changed_at < time_ns() - SETTLED_AFTER:
            self._remembered = (before, facts)
        return facts

    def _files_state(self) -> _FilesState:
        """Of the database and its write-ahead log; whoever reads makes an empty log for so long."""
        states: list[tuple[int, ...]] = []
        for path in (self._path, f"{self._path}-wal"):
            try:
                status = os.stat(path)  # noqa: PTH116 - at each scrape, and Path costs as much again
            except OSError:
                states.append(())
                continue
            changed_at = max(status.st_mtime_ns, status.st_ctime_ns)
            state = (changed_at, status.st_size, status.st_ino, status.st_dev)
            states.append(state if status.st_size else ())
        return tuple(states)

    @property
    def location(self) -> str:
        return str(self._path)

    @property
    def set_aside(self) -> list[Path]:
        """Files that were found corrupt."""
        return sorted(self._folder.path.glob(f"{FILE_NAME}.corrupt-*[0-9]"))

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                with self._open() as database:
                    yield database
            except sqlite3.DatabaseError as error:
                if _is_corrupt(error):
                    self._set_aside(error)
                raise
        except sqlite3.DatabaseError as error:
            msg = f"{self._path} cannot be used: {error}"
            raise StoreError(msg) from error
        except (OSError, StateError) as error:
            raise StoreError(str(error)) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder.file(FILE_NAME)
        database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
        with closing(database):
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = NORMAL")
            if schema_version(database) < SCHEMA_VERSION:
                _use_wal(database)
                make_schema(database)
            if (version := schema_version(database)) > SCHEMA_VERSION:
                msg = (
                    f"{path} was written by a newer django-smoketest (schema {version}; this one"
                    f" knows {SCHEMA_VERSION}). It is left alone; upgrade this process as well."
                )
                raise StoreError(msg)
            yield database

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Move the corrupt file away, once, whichever process finds it."""
        with HostLock(self._folder, "store").held(BUSY_TIMEOUT) as is_ours:
            if not is_ours:
                return
            try:
                with self._open() as database:
                    problem = database.execute("PRAGMA quick_check").fetchone()[0]
                if problem == "ok":
                    return  # another process was first
            except sqlite3.DatabaseError as still:
                if not _is_corrupt(still):
                    return
            aside = f"{FILE_NAME}.corrupt-{int(time())}"
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    (self._folder.path / f"{FILE_NAME}{suffix}").replace(
                        self._folder.path / f"{aside}{suffix}"
                    )
            logger.error(
                "The results store was corrupt (%s); it was moved to %s and begins anew.",
                error,
                aside,
            )
            with self._open() as database:
                set_metadata(database, "begun_anew", 1)


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to WAL mode; SQLite does not wait by itself here for others that read."""
    until = monotonic() + BUSY_TIMEOUT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if monotonic() > until:
                raise
            sleep(0.01)
        else:
            return


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
