"""The results store in a file shared by all processes of the site on a host.

The file is an SQLite database in WAL mode. Each use opens a new connection, so forked processes
never share one.
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
from smoketest.store.schema import (
    SCHEMA_VERSION,
    WAS_RESET,
    make_schema,
    schema_version,
    set_metadata,
)

logger = logging.getLogger("smoketest")

FILE_NAME = "results.sqlite3"
#: Seconds to wait for locks.
BUSY_TIMEOUT = 5.0
#: Nanoseconds after the last change of a file until every further change alters its timestamp.
SETTLED_AFTER = 1_000_000_000

_FilesState = tuple[tuple[int, ...], ...]


class SharedStore(ResultsStore):
    """The results store in the state folder of the site."""

    is_shared = True

    def __init__(self, folder: StateFolder, render: Render = render_nothing) -> None:
        super().__init__(render)
        self._folder = folder
        self._path = folder.path / FILE_NAME
        #: Cached metadata, and the state of the files from which it was read.
        self._cached: tuple[_FilesState, Mapping[str, Any]] | None = None

    def _read_metadata(self) -> Mapping[str, Any]:
        """Read the metadata if a file has changed; checking that is faster than opening SQLite."""
        before = self._files_state()
        if self._cached is not None and self._cached[0] == before:
            return self._cached[1]
        metadata = super()._read_metadata()
        changed_at = max((state[0] for state in before if state), default=0)
        # Two changes within one tick of the file system's clock have the same timestamp.
        if before == self._files_state() and changed_at < time_ns() - SETTLED_AFTER:
            self._cached = (before, metadata)
        return metadata

    def _files_state(self) -> _FilesState:
        """Return the state of the database file and of its write-ahead log.

        An empty log counts as missing, because readers create one temporarily.
        """
        states: list[tuple[int, ...]] = []
        for path in (self._path, f"{self._path}-wal"):
            try:
                status = os.stat(path)  # noqa: PTH116 - called at each scrape, and twice as fast
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
        """Files of corrupt stores."""
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
            msg = f"{self._path} cannot be used: {error}."
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                msg = f"{self._path} cannot be written, because the disk is full. Free some space."
            raise StoreError(msg) from error
        except (OSError, StateError) as error:
            raise StoreError(str(error)) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder.file(FILE_NAME)
        for suffix in ("-wal", "-shm", "-journal"):  # SQLite would follow symbolic links
            self._folder.check(f"{FILE_NAME}{suffix}")
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
                    f" knows {SCHEMA_VERSION}). The file was not changed. Upgrade django-smoketest"
                    " in this process or, after a downgrade, delete the file and its history."
                )
                raise StoreError(msg)
            yield database

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename the corrupt file, unless another process has done so."""
        with HostLock(self._folder, "store").held(BUSY_TIMEOUT) as acquired:
            if not acquired:
                return
            try:
                with self._open() as database:
                    problem = database.execute("PRAGMA quick_check").fetchone()[0]
                if problem == "ok":
                    return  # another process has replaced the file
            except sqlite3.DatabaseError as current:
                if not _is_corrupt(current):
                    return
            aside = f"{FILE_NAME}.corrupt-{int(time())}"
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    (self._folder.path / f"{FILE_NAME}{suffix}").replace(
                        self._folder.path / f"{aside}{suffix}"
                    )
            logger.error(
                "The results store was corrupt (%s); it was moved to %s and a new one was created.",
                error,
                aside,
            )
            with self._open() as database:
                set_metadata(database, WAS_RESET, 1)


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to WAL mode; SQLite does not apply its busy timeout to this change."""
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
