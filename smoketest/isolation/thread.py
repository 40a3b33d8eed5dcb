"""What a thread that runs smoke tests may do to the site's databases, and when."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from time import monotonic  # bound here: a test may patch the module
from types import TracebackType
from typing import Any, NoReturn, Self

from django.db import IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.connection import (
    PrivateConnection,
    Snapshot,
    private_connection,
    refused_connection,
)
from smoketest.isolation.errors import IsolationError
from smoketest.isolation.vendor import Limits
from smoketest.results import Databases


class Scope:
    """A transaction, or a savepoint inside one, on every database that is touched in it."""

    def __init__(self, name: str, databases: Databases, limits: Limits) -> None:
        self.name = name
        self.databases = databases
        self.limits = limits
        #: Whether every row that was written in this frame is still there.
        self.intact = True
        #: What the test was refused, so that it is errored even where its code went on.
        self.noted: list[IsolationError] = []


class UnavailableConnection:
    """In place of a connection whose backend cannot even be loaded: each use raises why."""

    def __init__(self, alias: str, error: Exception) -> None:
        self.alias = alias
        self.queries_log: deque[object] = deque()  # which each request clears
        self._error = error

    def close(self) -> None:
        """There is nothing to close."""

    close_if_unusable_or_obsolete = close

    def __getattr__(self, name: str) -> NoReturn:
        raise self._error


#: A context around a wait for others, which is not the time of the test that waits.
Waiting = Callable[[], AbstractContextManager[object]]

#: Held by the thread whose test uses a database of the kind that takes turns.
_turn = threading.Lock()


#: The isolation that the code belongs to which runs, also on the threads that asyncio runs it on.
_here: ContextVar[ThreadIsolation | None] = ContextVar("_here", default=None)


def is_isolated() -> bool:
    """Whether the code that asks belongs to a smoke test, or to the import of one."""
    return _here.get() is not None


def _guard_new_connections() -> None:
    """Let no isolated code have a connection of its own from Django that it could use.

    Django makes one on demand: for an alias that a test threw out of `connections`, and on the
    thread of a coroutine, which builds queries with it, and executes them elsewhere.
    """
    create = connections.create_connection

    def create_connection(alias: str) -> BaseDatabaseWrapper:
        connection = create(alias)
        return refused_connection(connection) if is_isolated() else connection

    connections.create_connection = create_connection  # type: ignore[method-assign]


_guard_new_connections()


class ThreadIsolation:
    """Private connections for the calling thread, for as long as the context lasts.

    Outside of a `frame`, and after `abandon`, every statement is refused.
    """

    def __init__(self, waiting: Waiting = nullcontext) -> None:
        self._waiting = waiting
        self._frames: list[Scope] = []
        self._abandoned = False
        self._private: dict[str, PrivateConnection] = {}
        #: What stands in `connections` of this thread, and what stood there before.
        self._substitutes: dict[str, Any] = {}
        self._replaced: dict[str, Any] = {}
        self._kills: list[threading.Thread] = []
        self._turn_lock = threading.Lock()
        #: Aliases for which this thread has its turn.
        self._turns: set[str] = set()

    def __enter__(self) -> Self:
        initialized = {c.alias: c for c in connections.all(initialized_only=True)}
        for alias in connections:
            self._replaced[alias] = initialized.get(alias)
            try:
                private = private_connection(connections[alias], self)
            except Exception as error:  # noqa: BLE001 - a driver may fail in any way
                self._substitutes[alias] = UnavailableConnection(alias, error)
            else:
                self._substitutes[alias] = self._private[alias] = private
        self._substitute()
        self._outer = _here.get()
        _here.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for private in self._private.values():
                private.dispose()
        finally:
            _here.set(self._outer)
            self._give_back()

    def _give_back(self) -> None:
        self._substitute()
        for alias, site_connection in self._replaced.items():
            if site_connection is None:
                del connections[alias]
            else:
                connections[alias] = site_connection

    def _substitute(self) -> None:
        """At first, and again, since a test may have thrown connections out."""
        for alias, substitute in self._substitutes.items():
            connections[alias] = substitute

    def abandon(self) -> None:
        """Refuse every further statement, and free what the test holds in its databases.

        Called from another thread, which does not wait for the databases.
        """
        self._abandoned = True
        for alias, private in list(self._private.items()):  # none waits for another's network
            if private.connection is None:
                self.release_slot(alias)
            else:
                kill = threading.Thread(
                    target=self._kill, args=(alias, private), name="smoketest-cut", daemon=True
                )
                self._kills.append(kill)
                kill.start()

    def wait_until_killed(self, timeout: float) -> None:
        """After `abandon`: until the databases are free, or so many seconds have passed."""
        until = monotonic() + timeout
        for kill in self._kills:
            kill.join(max(0.0, until - monotonic()))

    def _kill(self, alias: str, private: PrivateConnection) -> None:
        private.kill()
        self.release_slot(alias)

    def acquire_slot(self, alias: str) -> None:
        """Wait until no other thread uses a database of the kind that takes turns."""
        with self._turn_lock:
            has_turn = bool(self._turns)
        if not has_turn:
            with self._waiting():
                _turn.acquire()
        with self._turn_lock:
            self._turns.add(alias)
        if self._abandoned:
            self.release_slot(alias)

    def release_slot(self, alias: str) -> None:
        """Let the next one have its turn; whoever was abandoned has ended it already."""
        with self._turn_lock:
            if alias not in self._turns:
                return
            self._turns.discard(alias)
            if not self._turns:
                _turn.release()

    @contextmanager
    def frame(self, name: str, databases: Databases, limits: Limits) -> Iterator[Scope]:
        """Roll back, at the end, what the body does to the databases.

        `name` tells in messages whose frame it is. A frame inside another is undone alone. Raises
        `IsolationError` for an alias that the site does not have, and at the end what
        `PrivateConnection.end_frame` raises.
        """
        self._refuse_unknown(name, databases)
        if not self._frames:
            self._substitute()
        before = {alias: private.snapshot() for alias, private in self._private.items()}
        self._frames.append(Scope(name, databases, limits))
        try:
            yield self._frames[-1]
        finally:
            problems = self._end_frame(before)
        if problems:
            raise problems[0]

    def _end_frame(self, before: dict[str, Snapshot]) -> list[Exception]:
        problems: list[Exception] = []
        limits = [frame.limits for frame in self._frames]
        intact = True
        self._substitute()
        for alias, private in reversed(self._private.items()):
            if self._abandoned:
                private.dispose()
                continue
            try:
                intact &= private.end_frame(limits, before[alias])
            except IntegrityError as problem:
                problems.append(problem)
            except Exception as problem:  # noqa: BLE001 - the frames have to end, whatever a driver does
                private.dispose()
                problems.append(problem)
                intact = False
        noted = self._frames.pop().noted
        problems += [problem for problem in noted if not problem.is_reported]
        for outer in self._frames:
            outer.intact &= intact
        return problems

    def check_allowed(self, alias: str) -> list[Limits]:
        """Let a statement through, or raise `IsolationError`; called before each."""
        if self._abandoned:
            msg = f"This test ran out of time; it may not use the database {alias!r} any more."
            raise IsolationError(msg)
        if not self._frames:
            msg = (
                f"The database {alias!r} was used outside of a smoke test. Use it in tests, in"
                " setUp and in setUpClass, where it is rolled back; not where a smoke module is"
                " imported."
            )
            raise IsolationError(msg)
        frame = self._frames[-1]
        if frame.databases != "__all__" and alias not in frame.databases:
            msg = (
                f"{frame.name} may not use the database {alias!r}; it declares databases ="
                f" {set(frame.databases) or '{}'}. Add {alias!r} there if it should."
            )
            raise IsolationError(msg)
        return [frame.limits for frame in self._frames]

    def note(self, problem: IsolationError) -> None:
        """Remember what the test of the innermost frame is errored for."""
        if self._frames:
            self._frames[-1].noted.append(problem)

    def _refuse_unknown(self, name: str, databases: Collection[str]) -> None:
        if databases == "__all__":
            return
        if unknown := sorted(set(databases) - self._replaced.keys()):
            msg = (
                f"{name} declares databases that the site does not have: {', '.join(unknown)}."
                f" It has {', '.join(self._replaced)}."
            )
            raise IsolationError(msg)
