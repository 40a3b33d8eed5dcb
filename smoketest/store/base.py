"""The interface of the results store, implemented for any SQLite connection."""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import time, time_ns
from typing import Any

from smoketest.results import (
    Outcome,
    Report,
    Result,
    RunResult,
    Selection,
    StopReason,
    result_from_dict,
)
from smoketest.store.reading import read_known_tests, read_selection, read_snapshot
from smoketest.store.recording import count_run, record
from smoketest.store.records import KnownTest, PastResult, Pause, Snapshot, Status, StoreError
from smoketest.store.schema import WAS_RESET, read_metadata, set_metadata

#: Returns named renditions of a snapshot, which are stored with the results.
Render = Callable[[Snapshot], Mapping[str, bytes]]


def render_nothing(_: Snapshot) -> Mapping[str, bytes]:
    return {}


class ResultsStore(ABC):
    """The latest result of each test, totals, and the latest runs.

    The renditions returned by `render` are updated in the transaction that changes the results.
    """

    #: Whether all processes of the site on a host use the same store.
    is_shared: bool

    def __init__(self, render: Render = render_nothing) -> None:
        self._render = render
        #: Whether the latest write of this process failed.
        self.write_error: StoreError | None = None

    @abstractmethod
    def connect(self) -> Any:
        """Return a context manager that opens an SQLite connection. Raises `StoreError`."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Location of the store, for messages."""

    def begin(self, started_at: float) -> float | None:
        """Record the start of a run of all tests. Raises `StoreError`.

        If the process of the previous run ended before the run was recorded, count that run as
        aborted and return its start time, otherwise return None. The caller must hold the run lock.
        """
        with self._transaction() as database:
            lost = read_metadata(database).get("running_since")
            if lost is not None:
                count_run(database, RunResult.ABORTED)
                self._keep_renditions(database)
            set_metadata(database, "running_since", started_at)
            set_metadata(database, "last_attempt_at", started_at)
        return lost

    def record(self, report: Report) -> None:
        """Record a finished run. Raises `StoreError`."""
        with self._transaction() as database:
            record(database, report)
            self._keep_renditions(database)

    def status(self) -> Status:
        """Return the status, which is cheap to read. Raises `StoreError`."""
        metadata = self._read_metadata()
        pause = None
        if metadata.get("paused_until", 0.0) > time():
            pause = Pause(until=metadata["paused_until"], reason=metadata["pause_reason"])
        return Status(
            is_up=self.is_shared and WAS_RESET not in metadata,
            generation=metadata.get("generation", 0),
            last_attempt_at=metadata.get("last_attempt_at"),
            pause=pause,
        )

    def _read_metadata(self) -> Mapping[str, Any]:
        with self.connect() as database:
            return read_metadata(database)

    def pause(self, pause: Pause) -> None:
        """Stop all runs until the pause ends. Raises `StoreError`."""
        with self._transaction() as database:
            set_metadata(database, "paused_until", pause.until)
            set_metadata(database, "pause_reason", pause.reason)

    def resume(self) -> None:
        """End the pause. Raises `StoreError`."""
        with self._transaction() as database:
            database.execute("DELETE FROM facts WHERE name IN ('paused_until', 'pause_reason')")

    def probe(self) -> None:
        """Write about as much as a run does, without changing a result. Raises `StoreError`."""
        with self._transaction() as database:
            renditions = database.execute("SELECT name, body FROM renditions").fetchall()
            database.execute("DELETE FROM renditions")
            database.executemany("INSERT INTO renditions VALUES (?, ?)", renditions)
            set_metadata(database, "probed_at", time())

    def rendition(self, name: str) -> tuple[int, bytes]:
        """Return the generation of the results, and the rendition of that name.

        Render it now if the process that recorded the results did not store it, for example an
        older release. Raises `StoreError`.
        """
        with self.connect() as database:
            database.execute("BEGIN")
            generation = read_metadata(database).get("generation", 0)
            row = database.execute("SELECT body FROM renditions WHERE name = ?", [name]).fetchone()
            if row is not None:
                return generation, row[0]
            return generation, self._render(read_snapshot(database, is_shared=self.is_shared))[name]

    def _keep_renditions(self, database: sqlite3.Connection) -> None:
        snapshot = read_snapshot(database, is_shared=self.is_shared)
        database.execute("DELETE FROM renditions")
        database.executemany("INSERT INTO renditions VALUES (?, ?)", self._render(snapshot).items())
        # Based on the clock, so that a store that was reset does not repeat a generation.
        generation = max(read_metadata(database).get("generation", 0) + 1, time_ns())
        set_metadata(database, "generation", generation)

    def latest_report(self, selection: Selection, *, failfast: bool) -> Report | None:
        """Return the latest report that covers the selection, narrowed to it.

        Runs stopped by fail-fast count only if `failfast` is true, interrupted runs never. Raises
        `StoreError`.
        """
        with self.connect() as database:
            database.execute("BEGIN")  # so that no report is pruned before it is read
            rows = database.execute(
                "SELECT id, selection, cut FROM runs WHERE report IS NOT NULL ORDER BY id DESC"
            ).fetchall()
            for run, stored_selection, stop_reason in rows:
                if not read_selection(stored_selection).covers(selection):
                    continue
                if stop_reason == StopReason.INTERRUPT or (
                    stop_reason == StopReason.FAIL_FAST and not failfast
                ):
                    continue
                (text,) = database.execute("SELECT report FROM runs WHERE id = ?", [run]).fetchone()
                return Report.from_dict(json.loads(text)).narrowed_to(selection)
        return None

    def latest_results(self) -> dict[str, Result]:
        """Return the latest result of each test by id. Raises `StoreError`."""
        with self.connect() as database:
            rows = database.execute("SELECT test, result FROM tests").fetchall()
        return {test: result_from_dict(json.loads(text)) for test, text in rows}

    def consecutive_failures(self) -> dict[str, int]:
        """Return the number of consecutive failures of each failing test. Raises `StoreError`."""
        with self.connect() as database:
            return dict(
                database.execute(
                    "SELECT test, consecutive_failures FROM tests WHERE consecutive_failures > 0"
                ).fetchall()
            )

    def recent_outcomes(self, limit: int) -> dict[str, tuple[Outcome, ...]]:
        """Return up to `limit` latest outcomes per test, latest last. Raises `StoreError`."""
        with self.connect() as database:
            rows = database.execute(
                "SELECT test, outcome FROM ("
                " SELECT test, run, outcome,"
                " row_number() OVER (PARTITION BY test ORDER BY run DESC) AS place FROM outcomes"
                ") WHERE place <= ? ORDER BY test, run",
                [limit],
            ).fetchall()
        recent: dict[str, list[Outcome]] = {}
        for test, outcome in rows:
            recent.setdefault(test, []).append(Outcome(outcome))
        return {test: tuple(outcomes) for test, outcomes in recent.items()}

    def past_results(self, test: str) -> tuple[PastResult, ...]:
        """Return the results of a test in all stored runs, latest first. Raises `StoreError`."""
        with self.connect() as database:
            rows = database.execute(
                "SELECT outcome, started_at, duration FROM outcomes WHERE test = ?"
                " ORDER BY run DESC",
                [test],
            ).fetchall()
        return tuple(
            PastResult(outcome=Outcome(outcome), started_at=started_at, duration=duration)
            for outcome, started_at, duration in rows
        )

    def known_test(self, test: str) -> KnownTest | None:
        """Return the record of a test, or None if it never ran. Raises `StoreError`."""
        with self.connect() as database:
            database.execute("BEGIN")
            return next(iter(read_known_tests(database, test)), None)

    def last_failure(self, test: str) -> Result | None:
        """Return the latest failure of a test with its traceback. Raises `StoreError`."""
        with self.connect() as database:
            row = database.execute(
                "SELECT last_failure FROM tests WHERE test = ?", [test]
            ).fetchone()
        return result_from_dict(json.loads(row[0])) if row and row[0] else None

    def snapshot(self) -> Snapshot:
        """Return a consistent snapshot of the store. Raises `StoreError`."""
        with self.connect() as database:
            database.execute("BEGIN")
            return read_snapshot(database, is_shared=self.is_shared)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self.connect() as database:
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                except BaseException:
                    if database.in_transaction:  # SQLite rolls back itself if the disk is full
                        database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
        except StoreError as error:
            self.write_error = error
            raise
        self.write_error = None
