"""Isolation of a thread: its private connections and scopes, and the check of each statement."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from time import monotonic  # imported by name, because a test may patch time.monotonic
from types import TracebackType
from typing import Any, NoReturn, Self

from django.db import IntegrityError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from smoketest.isolation.connection import (
    PrivateConnection,
    Snapshot,
    not_private,
    private_connection,
)
from smoketest.isolation.errors import IsolationError
from smoketest.isolation.rows import cached_rows, clear_if_changed
from smoketest.isolation.vendor import Limits
from smoketest.results import Databases


class Scope:
    """A transaction, or a savepoint in the enclosing scope, on every database that is used."""

    def __init__(self, name: str, databases: Databases, limits: Limits) -> None:
        self.name = name
        self.databases = databases
        self.limits = limits
        #: Whether everything written in this scope is still present.
        self.intact = True
        #: Errors that make the test errored even if its code catches them.
        self.errors: list[IsolationError] = []
        #: Rows in Django's caches when it began.
        self.cached_rows = cached_rows()


class UnavailableConnection:
    """Substitute for a connection whose backend cannot be loaded; each use raises the error."""

    def __init__(self, alias: str, error: Exception) -> None:
        self.alias = alias
        self.queries_log: deque[object] = deque()  # cleared by each request
        self._error = error

    def close(self) -> None:
        """Do nothing."""

    close_if_unusable_or_obsolete = close

    def __getattr__(self, name: str) -> NoReturn:
        raise self._error


#: Returns a context manager that stops the clock of the test while it waits for other tests.
Waiting = Callable[[], AbstractContextManager[object]]

#: Locks of serialized databases by their name, each held by the thread that writes to it.
_slots: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

#: The isolation of the running code. A context variable, because asyncio may use other threads.
_current: ContextVar[ThreadIsolation | None] = ContextVar("_current", default=None)


def is_isolated() -> bool:
    """Return whether the caller runs in a smoke test or in the import of a smoke module.

    A task of the site that a smoke test has started keeps the context of the test, but is not
    isolated after the run.
    """
    isolation = _current.get()
    return isolation is not None and isolation.is_active


def refuse(reason: str) -> IsolationError:
    """Return the error for something that isolated code tried.

    It makes the running test errored even if its code catches it.
    """
    error = IsolationError(reason)
    if (isolation := _current.get()) is not None:
        isolation.record_error(error)
    return error


class _RefusedConnection(BaseDatabaseWrapper):
    """Mixin for a connection that isolated code has made Django create.

    Django keeps it in the thread, which may belong to the site: it refuses to connect for isolated
    code, and becomes an ordinary connection when other code uses it.
    """

    site_class: type[BaseDatabaseWrapper]

    def ensure_connection(self) -> None:
        self._allow()
        self.ensure_connection()

    def connect(self) -> None:
        self._allow()
        self.connect()

    def get_new_connection(self, conn_params: Any) -> Any:
        self._allow()
        return self.get_new_connection(conn_params)

    def _allow(self) -> None:
        if is_isolated():
            raise not_private(self.alias)
        self.__class__ = self.site_class  # type: ignore[assignment]


@cache
def _refused_class(site_class: type[Any]) -> type[_RefusedConnection]:
    attributes = {"site_class": site_class}
    return type(site_class.__name__, (_RefusedConnection, site_class), attributes)


def _guard_new_connections() -> None:
    """Make Django create connections that refuse to connect in isolated code.

    Django creates connections on demand: for an alias that a test deleted from `connections`, in a
    thread that runs code in the context of a test, and in the thread of a coroutine, which uses the
    connection only to build queries.
    """
    create = connections.create_connection

    def create_connection(alias: str) -> BaseDatabaseWrapper:
        connection = create(alias)
        if is_isolated():
            site_class: Any = type(connection)
            connection.__class__ = _refused_class(site_class)
        return connection

    connections.create_connection = create_connection  # type: ignore[method-assign]


_guard_new_connections()


class ThreadIsolation:
    """Context manager that gives the calling thread private connections.

    Every statement is refused outside of a `scope` and after `abandon`.
    """

    def __init__(self, waiting: Waiting = nullcontext) -> None:
        self._waiting = waiting
        self._scopes: list[Scope] = []
        self._abandoned = False
        #: Whether the thread has entered, and not left, the context.
        self.is_active = False
        self._private: dict[str, PrivateConnection] = {}
        #: The thread's entries in `connections`, and the entries that they replaced.
        self._substitutes: dict[str, Any] = {}
        self._replaced: dict[str, Any] = {}
        self._kills: list[threading.Thread] = []
        self._slots_lock = threading.Lock()
        #: Names of the serialized databases whose slot this thread holds, by alias.
        self._slots: dict[str, str] = {}

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
        self._outer = _current.get()
        _current.set(self)
        self.is_active = True
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
            self.is_active = False
            _current.set(self._outer)
            self._restore()

    def _restore(self) -> None:
        self._substitute()
        for alias, site_connection in self._replaced.items():
            if site_connection is None:
                del connections[alias]
            else:
                connections[alias] = site_connection

    def _substitute(self) -> None:
        """Install the private connections, again if a test has replaced or deleted them."""
        for alias, substitute in self._substitutes.items():
            connections[alias] = substitute

    def abandon(self) -> None:
        """Refuse all further statements, and release the locks of the test in its databases.

        Called from another thread. Returns without waiting for the databases.
        """
        self._abandoned = True
        for alias, private in list(self._private.items()):
            if not private.is_connected:
                self.release_slot(alias)
            else:
                # One thread each, so that an unreachable database does not delay the others.
                kill = threading.Thread(
                    target=self._kill, args=(alias, private), name="smoketest-kill", daemon=True
                )
                self._kills.append(kill)
                kill.start()
        for outermost in self._scopes[:1]:
            clear_if_changed(outermost.cached_rows)

    def wait_until_killed(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until the databases have released all locks."""
        until = monotonic() + timeout
        for kill in self._kills:
            kill.join(max(0.0, until - monotonic()))

    def _kill(self, alias: str, private: PrivateConnection) -> None:
        private.kill()
        self.release_slot(alias)

    def acquire_slot(self, alias: str, name: str) -> None:
        """Wait until no other thread writes to a serialized database, whose slot has this name.

        While this thread holds another slot, it waits for at most the lock timeout, so that two
        threads do not wait for each other. Raises `OperationalError` after that.
        """
        with self._slots_lock:
            held = set(self._slots.values())
        if not held:
            with self._waiting():
                _slots[name].acquire()
        elif name not in held:
            timeout = self._scopes[-1].limits.lock
            if not _slots[name].acquire(timeout=timeout):
                msg = (
                    f"Timed out after {timeout:g} s (SMOKETEST_LOCK_TIMEOUT) waiting for another"
                    f" smoke test that has written to database {alias!r}. A test that has written"
                    " to a database waits only that long for a second one. Write to one database"
                    " per test, or run with fewer SMOKETEST_WORKERS."
                )
                raise OperationalError(msg)
        with self._slots_lock:
            self._slots[alias] = name
        if self._abandoned:
            self.release_slot(alias)

    def release_slot(self, alias: str) -> None:
        """Allow the next thread to use a serialized database; does nothing if already released."""
        with self._slots_lock:
            name = self._slots.pop(alias, None)
            if name is not None and name not in self._slots.values():
                _slots[name].release()

    @contextmanager
    def scope(self, name: str, databases: Databases, limits: Limits) -> Iterator[Scope]:
        """Roll back all changes to the databases at the end of the ``with`` block.

        `name` identifies the scope in messages. A nested scope is rolled back separately. Raises
        `IsolationError` for an unknown alias, and the exceptions of `PrivateConnection.end_scope`.
        """
        self._check_aliases(name, databases)
        if not self._scopes:
            self._substitute()
        before = {alias: private.begin_scope() for alias, private in self._private.items()}
        self._scopes.append(Scope(name, databases, limits))
        try:
            yield self._scopes[-1]
        finally:
            problems = self._end_scope(before)
        if problems:
            raise problems[0]

    def _end_scope(self, before: dict[str, Snapshot]) -> list[Exception]:
        problems: list[Exception] = []
        limits = [scope.limits for scope in self._scopes]
        intact = True
        self._substitute()
        for alias, private in reversed(self._private.items()):
            if self._abandoned:
                private.dispose()
                continue
            try:
                intact &= private.end_scope(limits, before[alias])
            except IntegrityError as problem:
                problems.append(problem)
            except Exception as problem:  # noqa: BLE001 - the scope must end on every database
                private.dispose()
                problems.append(problem)
                intact = False
        scope = self._scopes.pop()
        clear_if_changed(scope.cached_rows)
        problems += [error for error in scope.errors if not error.is_reported]
        for outer in self._scopes:
            outer.intact &= intact
        return problems

    def check_allowed(self, alias: str) -> list[Limits]:
        """Return the limits of the open scopes, outermost first; called before each statement.

        Raises `IsolationError` if the statement is not allowed.
        """
        if self._abandoned:
            msg = f"This test timed out and may no longer use the database {alias!r}."
            raise IsolationError(msg)
        if not self._scopes:
            msg = (
                f"The database {alias!r} was used outside of a smoke test. Use it in tests, setUp"
                " and setUpClass, where changes are rolled back, not while a smoke module is"
                " imported."
            )
            raise IsolationError(msg)
        scope = self._scopes[-1]
        if scope.databases != "__all__" and alias not in scope.databases:
            msg = (
                f"{scope.name} may not use the database {alias!r}; it declares databases ="
                f" {set(scope.databases) or '{}'}. Add {alias!r} to allow it."
            )
            raise IsolationError(msg)
        return [scope.limits for scope in self._scopes]

    def record_error(self, error: IsolationError) -> None:
        """Record an error that makes the test errored even if its code catches it."""
        if self._scopes:
            self._scopes[-1].errors.append(error)

    def _check_aliases(self, name: str, databases: Collection[str]) -> None:
        if databases == "__all__":
            return
        if unknown := sorted(set(databases) - self._replaced.keys()):
            msg = (
                f"{name} declares databases that are not in DATABASES: {', '.join(unknown)}."
                f" Available aliases: {', '.join(self._replaced)}."
            )
            raise IsolationError(msg)
