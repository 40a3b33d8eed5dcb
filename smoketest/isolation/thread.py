"""What a thread that runs smoke tests may do to the site's databases, and when."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from django.db import IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.connection import PrivateConnection, Snapshot, private_connection
from smoketest.isolation.errors import IsolationError
from smoketest.isolation.vendor import Limits
from smoketest.results import Databases


class Frame:
    """A transaction, or a savepoint inside one, on every database that is touched in it."""

    def __init__(self, name: str, databases: Databases, limits: Limits) -> None:
        self.name = name
        self.databases = databases
        self.limits = limits
        #: Whether every row that was written in this frame is still there.
        self.intact = True


class ThreadIsolation:
    """Private connections for the calling thread, for as long as the context lasts.

    Outside of a `frame`, and after `abandon`, every statement is refused.
    """

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._abandoned = False
        self._private: dict[str, PrivateConnection] = {}
        self._replaced: dict[str, BaseDatabaseWrapper | None] = {}

    def __enter__(self) -> Self:
        initialized = {c.alias: c for c in connections.all(initialized_only=True)}
        for alias in connections:
            site_connection = connections[alias]
            self._replaced[alias] = initialized.get(alias)
            private = private_connection(site_connection, self)
            connections[alias] = self._private[alias] = private
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for alias, private in self._private.items():
            private.dispose()
            if (site_connection := self._replaced[alias]) is None:
                del connections[alias]
            else:
                connections[alias] = site_connection

    def abandon(self) -> None:
        """Refuse every further statement; called from another thread."""
        self._abandoned = True

    @contextmanager
    def frame(self, name: str, databases: Databases, limits: Limits) -> Iterator[Frame]:
        """Roll back, at the end, what the body does to the databases.

        `name` tells in messages whose frame it is. A frame inside another is undone alone. Raises
        `IsolationError` for an alias that the site does not have, and at the end what
        `PrivateConnection.end_frame` raises.
        """
        self._refuse_unknown(name, databases)
        before = {alias: private.snapshot() for alias, private in self._private.items()}
        self._frames.append(Frame(name, databases, limits))
        try:
            yield self._frames[-1]
        finally:
            problems = self._end_frame(before)
        if problems:
            raise problems[0]

    def _end_frame(self, before: dict[str, Snapshot]) -> list[Exception]:
        problems: list[Exception] = []
        intact = True
        for alias, private in reversed(self._private.items()):
            try:
                intact &= private.end_frame(len(self._frames), before[alias])
            except IntegrityError as problem:
                problems.append(problem)
            except IsolationError as problem:
                problems.append(problem)
                intact = False
        self._frames.pop()
        for outer in self._frames:
            outer.intact &= intact
        return problems

    def admit(self, alias: str) -> list[Limits]:
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

    def _refuse_unknown(self, name: str, databases: Collection[str]) -> None:
        if databases == "__all__":
            return
        if unknown := sorted(set(databases) - self._private.keys()):
            msg = (
                f"{name} declares databases that the site does not have: {', '.join(unknown)}."
                f" It has {', '.join(self._private)}."
            )
            raise IsolationError(msg)
