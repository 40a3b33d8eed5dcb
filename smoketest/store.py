"""The results store: what is known of every test, shared by all processes of the site on a host.

One SQLite file in WAL mode, opened anew for each use, so that forked workers share nothing.
A run is recorded in a single transaction: killed in the middle of it, a process leaves the store
as it was.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep, time, time_ns
from typing import Any

from smoketest.locks import HostLock
from smoketest.results import Cut, Outcome, Report, Result, RunResult, result_from_dict
from smoketest.selection import Selection, is_dotted_prefix
from smoketest.state import StateError, StateFolder

logger = logging.getLogger("smoketest")

FILE_NAME = "results.sqlite3"
#: Runs whose outcomes are kept, and runs that are kept with all that they said.
KEPT_RUNS = 100
KEPT_REPORTS = 5
BUSY_TIMEOUT = 5.0
#: Nanoseconds since the last change of a file after which its state tells of any other change.
SETTLED_AFTER = 1_000_000_000

_FilesState = tuple[tuple[int, ...], ...]

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    duration REAL NOT NULL,
    result TEXT NOT NULL,
    passed INTEGER NOT NULL,
    is_full INTEGER NOT NULL,
    selection TEXT NOT NULL,
    cut TEXT NOT NULL,
    collection_errors INTEGER NOT NULL,
    outcomes TEXT NOT NULL,
    report TEXT
);
CREATE TABLE outcomes (
    test TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    outcome TEXT NOT NULL,
    started_at REAL NOT NULL,
    duration REAL NOT NULL,
    PRIMARY KEY (test, run)
) WITHOUT ROWID;
CREATE INDEX outcomes_of_run ON outcomes (run);
CREATE TABLE tests (
    test TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    consecutive_failures INTEGER NOT NULL,
    failing_since REAL,
    last_success_at REAL
) WITHOUT ROWID;
CREATE TABLE test_totals (
    test TEXT NOT NULL REFERENCES tests (test) ON DELETE CASCADE,
    outcome TEXT NOT NULL,
    runs INTEGER NOT NULL,
    PRIMARY KEY (test, outcome)
) WITHOUT ROWID;
CREATE TABLE run_totals (result TEXT PRIMARY KEY, runs INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE renditions (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
#: From the first version to the second, and so on.
_UPGRADES = ("ALTER TABLE tests ADD COLUMN last_failure TEXT",)
SCHEMA_VERSION = 1 + len(_UPGRADES)


class StoreError(Exception):
    """The results store cannot be read or written now; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTest:
    """What is known of one test; times of day are Unix seconds."""

    #: When it last ran or was skipped.
    result: Result
    #: Runs in a row that it did not pass, skips left out.
    consecutive_failures: int
    #: When the first of those began; None if it passed.
    failing_since: float | None
    last_success_at: float | None
    totals: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, in short."""

    started_at: float
    duration: float
    passed: bool
    collection_errors: int
    outcomes: Mapping[Outcome, int]

    @property
    def finished_at(self) -> float:
        return self.started_at + self.duration


@dataclass(frozen=True, slots=True, kw_only=True)
class PastResult:
    """What came of one test in an earlier run: all that is kept of it for long."""

    outcome: Outcome
    #: Unix time.
    started_at: float
    #: Seconds.
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """An operator has stopped all runs on this host for a while."""

    #: Unix time at which it ends by itself.
    until: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The little that is asked at each scrape."""

    #: False if what had been stored could not be read.
    is_up: bool
    #: Another number after each change of the results.
    generation: int
    #: Unix time at which the latest run of all tests began, whatever came of it.
    last_attempt_at: float | None
    #: The pause that goes on, if one does.
    pause: Pause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that the store knows, at one moment."""

    #: False if what had been stored could not be read.
    is_up: bool
    #: Whether totals outlive this process; if not, they are no counters.
    is_shared: bool
    last_full_run: RunSummary | None = None
    last_success_at: float | None = None
    run_totals: Mapping[RunResult, int] = field(default_factory=dict)
    tests: tuple[KnownTest, ...] = ()


#: Derives from a snapshot what is kept with it, by name.
Render = Callable[[Snapshot], Mapping[str, bytes]]


def _render_nothing(_: Snapshot) -> Mapping[str, bytes]:
    return {}


class ResultsStore(ABC):
    """What is known of every test from its latest run, totals, and the latest runs.

    What `render` derives is made anew whenever results change, in the same transaction.
    """

    is_shared: bool

    def __init__(self, render: Render = _render_nothing) -> None:
        self._render = render

    @abstractmethod
    def connect(self) -> Any:
        """A context manager that gives an SQLite connection; raises `StoreError`."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, for messages."""

    def begin(self, started_at: float) -> float | None:
        """Note that a run of all tests begins, before it does. Raises `StoreError`.

        Returns when the one before began, if its process ended in the middle of it: nobody has
        recorded that, so it is counted as aborted here. The caller holds the run lock.
        """
        with self._transaction() as database:
            lost = _facts(database).get("running_since")
            if lost is not None:
                _count_run(database, RunResult.ABORTED)
                self._keep_renditions(database)
            _set_fact(database, "running_since", started_at)
            _set_fact(database, "last_attempt_at", started_at)
        return lost

    def record(self, report: Report) -> None:
        """Add a run. Raises `StoreError`."""
        with self._transaction() as database:
            _record(database, report)
            self._keep_renditions(database)

    def status(self) -> Status:
        """The little that may be asked often. Raises `StoreError`."""
        facts = self._read_facts()
        pause = None
        if facts.get("paused_until", 0.0) > time():
            pause = Pause(until=facts["paused_until"], reason=facts["pause_reason"])
        return Status(
            is_up=self.is_shared and "begun_anew" not in facts,
            generation=facts.get("generation", 0),
            last_attempt_at=facts.get("last_attempt_at"),
            pause=pause,
        )

    def _read_facts(self) -> Mapping[str, Any]:
        with self.connect() as database:
            return _facts(database)

    def pause(self, pause: Pause) -> None:
        """Let no test run until then. Raises `StoreError`."""
        with self._transaction() as database:
            _set_fact(database, "paused_until", pause.until)
            _set_fact(database, "pause_reason", pause.reason)

    def resume(self) -> None:
        """End the pause. Raises `StoreError`."""
        with self._transaction() as database:
            database.execute("DELETE FROM facts WHERE name IN ('paused_until', 'pause_reason')")

    def rendition(self, name: str) -> tuple[int, bytes]:
        """One of the renditions, and the generation of the results that it shows.

        It is made now if the process that recorded the latest results did not know of it. Raises
        `StoreError`.
        """
        with self.connect() as database:
            database.execute("BEGIN")
            generation = _facts(database).get("generation", 0)
            row = database.execute("SELECT body FROM renditions WHERE name = ?", [name]).fetchone()
            if row is not None:
                return generation, row[0]
            return generation, self._render(_snapshot(database, is_shared=self.is_shared))[name]

    def _keep_renditions(self, database: sqlite3.Connection) -> None:
        snapshot = _snapshot(database, is_shared=self.is_shared)
        database.execute("DELETE FROM renditions")
        database.executemany("INSERT INTO renditions VALUES (?, ?)", self._render(snapshot).items())
        # No small number: a store that begins anew must not come to one that it had before.
        generation = max(_facts(database).get("generation", 0) + 1, time_ns())
        _set_fact(database, "generation", generation)

    def latest_report(self, selection: Selection, *, failfast: bool) -> Report | None:
        """The newest report that says all that the selection asks for, narrowed to it.

        A run that fail-fast cut short serves those alone who asked for that, an interrupted one
        nobody. Raises `StoreError`.
        """
        with self.connect() as database:
            database.execute("BEGIN")  # or a report might be pruned before it is read
            rows = database.execute(
                "SELECT id, selection, cut FROM runs WHERE report IS NOT NULL ORDER BY id DESC"
            ).fetchall()
            for run, stored_selection, cut in rows:
                stored = _selection(json.loads(stored_selection))
                if not (stored.is_everything or stored == selection):
                    continue
                if cut == Cut.INTERRUPT or (cut == Cut.FAIL_FAST and not failfast):
                    continue
                (text,) = database.execute("SELECT report FROM runs WHERE id = ?", [run]).fetchone()
                return Report.from_dict(json.loads(text)).narrowed_to(selection)
        return None

    def latest_results(self) -> dict[str, Result]:
        """The latest result of every test, by its id. Raises `StoreError`."""
        with self.connect() as database:
            rows = database.execute("SELECT test, result FROM tests").fetchall()
        return {test: result_from_dict(json.loads(text)) for test, text in rows}

    def recent_outcomes(self, limit: int) -> dict[str, tuple[Outcome, ...]]:
        """What came of each test in its latest runs, the latest last. Raises `StoreError`."""
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
        """What came of a test in all runs that are kept, the latest first. Raises `StoreError`."""
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
        """What is known of one test; None if it never ran. Raises `StoreError`."""
        with self.connect() as database:
            database.execute("BEGIN")
            return next(iter(_known_tests(database, test)), None)

    def last_failure(self, test: str) -> Result | None:
        """The latest failure of a test, in full. Raises `StoreError`."""
        with self.connect() as database:
            row = database.execute(
                "SELECT last_failure FROM tests WHERE test = ?", [test]
            ).fetchone()
        return result_from_dict(json.loads(row[0])) if row and row[0] else None

    def snapshot(self) -> Snapshot:
        """All that is known, as of one moment. Raises `StoreError`."""
        with self.connect() as database:
            database.execute("BEGIN")
            return _snapshot(database, is_shared=self.is_shared)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.connect() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


class SharedStore(ResultsStore):
    """The store in the state folder of the site."""

    is_shared = True

    def __init__(self, folder: StateFolder, render: Render = _render_nothing) -> None:
        super().__init__(render)
        self._folder = folder
        self._path = folder.path / FILE_NAME
        #: The facts, and the state of the files that they were read from.
        self._remembered: tuple[_FilesState, Mapping[str, Any]] | None = None

    def _read_facts(self) -> Mapping[str, Any]:
        """Read them again only if a file of the store has changed: opening SQLite costs more."""
        before = self._files_state()
        if self._remembered is not None and self._remembered[0] == before:
            return self._remembered[1]
        facts = super()._read_facts()
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
                raise StoreError(f"{self._path} cannot be used: {error}") from error
        except (OSError, StateError) as error:
            raise StoreError(str(error)) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder.file(FILE_NAME)
        database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
        with closing(database):
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = NORMAL")
            if _schema_version(database) < SCHEMA_VERSION:
                _use_wal(database)
                _make_schema(database)
            if (version := _schema_version(database)) > SCHEMA_VERSION:
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
                _set_fact(database, "begun_anew", 1)


class MemoryStore(ResultsStore):
    """The fallback of a process that has no state folder: latest results, no totals to rely on."""

    is_shared = False
    location = "the memory of this process"

    def __init__(self, render: Render = _render_nothing) -> None:
        super().__init__(render)
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._database is None:
                self._database = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
                weakref.finalize(self, self._database.close)
                self._database.execute("PRAGMA foreign_keys = ON")
                _make_schema(self._database)
            try:
                yield self._database
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")


def _schema_version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


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


def _make_schema(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    version = _schema_version(database)  # another process may have been first
    if version == 0:
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        version = 1
    if version < SCHEMA_VERSION:
        for statement in _UPGRADES[version - 1 :]:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def _facts(database: sqlite3.Connection) -> dict[str, Any]:
    return dict(database.execute("SELECT name, value FROM facts").fetchall())


def _set_fact(database: sqlite3.Connection, name: str, value: float | str) -> None:
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])


def _count_run(database: sqlite3.Connection, result: RunResult) -> None:
    database.execute(
        "INSERT INTO run_totals VALUES (?, 1) ON CONFLICT (result) DO UPDATE SET runs = runs + 1",
        [result],
    )


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _record(database: sqlite3.Connection, report: Report) -> None:
    run = database.execute(
        "INSERT INTO runs (started_at, duration, result, passed, is_full, selection, cut,"
        " collection_errors, outcomes, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            report.started_at,
            report.duration,
            report.result,
            report.passed,
            report.is_full,
            json.dumps(asdict(report.selection)),
            report.cut,
            sum(result.declaration.is_collection_error for result in report.results),
            json.dumps(Counter(result.outcome for result in report.results)),
            json.dumps(report.to_dict()),
        ],
    ).lastrowid
    for result in report.results:
        if not result.carried and result.outcome is not Outcome.NOT_RUN:
            _record_result(database, run, result)
    if report.is_full:
        _forget_removed(database, report)
        database.execute("DELETE FROM facts WHERE name = 'begun_anew'")
        if report.passed:
            _set_fact(database, "last_success_at", report.finished_at)
    if report.selection.is_everything:
        _count_run(database, report.result)
        database.execute("DELETE FROM facts WHERE name = 'running_since'")
    _prune(database)


def _record_result(database: sqlite3.Connection, run: int | None, result: Result) -> None:
    database.execute(
        "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?)",
        [result.id, run, result.outcome, result.started_at, result.duration],
    )
    content = json.dumps(asdict(result))
    is_problem = result.is_problem
    has_passed = result.outcome is Outcome.PASSED
    database.execute(
        "INSERT INTO tests VALUES"
        " (:test, :result, :is_problem, :failing_since, :success_at, :failure)"
        " ON CONFLICT (test) DO UPDATE SET result = :result,"
        " last_failure = coalesce(:failure, last_failure),"
        " consecutive_failures ="
        " CASE WHEN :has_passed THEN 0 ELSE consecutive_failures + :is_problem END,"
        " failing_since ="
        " CASE WHEN :has_passed THEN NULL ELSE coalesce(failing_since, :failing_since) END,"
        " last_success_at = coalesce(:success_at, last_success_at)",
        {
            "test": result.id,
            "result": content,
            "failure": content if is_problem else None,
            "is_problem": is_problem,
            "has_passed": has_passed,
            "failing_since": result.started_at if is_problem else None,
            "success_at": result.finished_at if has_passed else None,
        },
    )
    database.execute(
        "INSERT INTO test_totals VALUES (?, ?, 1)"
        " ON CONFLICT (test, outcome) DO UPDATE SET runs = runs + 1",
        [result.id, result.outcome],
    )


def _forget_removed(database: sqlite3.Connection, report: Report) -> None:
    """Forget the tests that the site no longer has.

    Those of a module that cannot be imported are not removed, only out of sight.
    """
    present = {result.id for result in report.results}
    broken = [r.id for r in report.results if r.declaration.is_collection_error]
    for (test,) in database.execute("SELECT test FROM tests").fetchall():
        if test not in present and not any(is_dotted_prefix(module, test) for module in broken):
            database.execute("DELETE FROM tests WHERE test = ?", [test])


def _prune(database: sqlite3.Connection) -> None:
    """Keep the latest runs, the reports of the very latest, and always the latest full run."""
    database.execute(
        "DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?"
        " AND id != (SELECT coalesce(max(id), 0) FROM runs WHERE is_full)",
        [KEPT_RUNS],
    )
    database.execute(
        "UPDATE runs SET report = NULL WHERE report IS NOT NULL"
        " AND id <= (SELECT max(id) FROM runs) - ?"
        " AND id != (SELECT coalesce(max(id), 0) FROM runs WHERE is_full)",
        [KEPT_REPORTS],
    )


def _known_tests(database: sqlite3.Connection, test: str | None = None) -> tuple[KnownTest, ...]:
    """All tests, or the one that is named."""
    named = {"test": test}
    totals: dict[str, dict[Outcome, int]] = {}
    for name, outcome, runs in database.execute(
        "SELECT test, outcome, runs FROM test_totals WHERE :test IS NULL OR test = :test", named
    ):
        totals.setdefault(name, {})[Outcome(outcome)] = runs
    return tuple(
        KnownTest(
            result=result_from_dict(json.loads(text)),
            consecutive_failures=failures,
            failing_since=failing_since,
            last_success_at=last_success_at,
            totals=totals.get(name, {}),
        )
        for name, text, failures, failing_since, last_success_at in database.execute(
            "SELECT test, result, consecutive_failures, failing_since, last_success_at FROM tests"
            " WHERE :test IS NULL OR test = :test",
            named,
        )
    )


def _snapshot(database: sqlite3.Connection, *, is_shared: bool) -> Snapshot:
    facts = _facts(database)
    tests = _known_tests(database)
    row = database.execute(
        "SELECT started_at, duration, passed, collection_errors, outcomes FROM runs"
        " WHERE is_full ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Snapshot(
        is_up=is_shared and "begun_anew" not in facts,
        is_shared=is_shared,
        last_full_run=row and _summary(*row),
        last_success_at=facts.get("last_success_at"),
        run_totals={
            RunResult(result): runs
            for result, runs in database.execute("SELECT result, runs FROM run_totals")
        },
        tests=tests,
    )


def _summary(
    started_at: float, duration: float, passed: int, collection_errors: int, outcomes: str
) -> RunSummary:
    return RunSummary(
        started_at=started_at,
        duration=duration,
        passed=bool(passed),
        collection_errors=collection_errors,
        outcomes={Outcome(name): count for name, count in json.loads(outcomes).items()},
    )


def _selection(values: Mapping[str, Collection[str]]) -> Selection:
    return Selection(**{name: tuple(names) for name, names in values.items()})
