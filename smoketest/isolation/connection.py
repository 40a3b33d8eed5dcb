"""A private database connection that begins its transaction lazily and always rolls back."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from time import monotonic  # imported by name, because a test may patch time.monotonic
from typing import Any, NamedTuple, Protocol

from django.db import DatabaseError, Error, IntegrityError, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.transaction import Atomic
from django.utils.crypto import salted_hmac
from django.utils.functional import cached_property

from smoketest.isolation.errors import (
    IsolationError,
    RefusedStatementError,
    TransactionEndedError,
)
from smoketest.isolation.mysql import MySQL, MySQLStatements
from smoketest.isolation.postgresql import PostgreSQL
from smoketest.isolation.sqlite import SQLite
from smoketest.isolation.statements import leading_words
from smoketest.isolation.vendor import Attempt, Limits, Vendor, execute

#: Supported databases by Django's vendor name. Others have no limits inside the database, and their
#: statements cannot be cancelled.
VENDORS: dict[str, type[Vendor]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}


def is_supported(site_class: type[BaseDatabaseWrapper]) -> bool:
    """Return whether a backend is, or derives from, one of Django's for a supported database.

    Other backends for the same database have another driver.
    """
    own = f"django.db.backends.{_PACKAGES.get(site_class.vendor, site_class.vendor)}.base"
    return site_class.vendor in VENDORS and own in {c.__module__ for c in site_class.__mro__}


#: Packages of Django's backends whose name is not that of the vendor.
_PACKAGES = {"sqlite": "sqlite3"}


def _vendor(site_class: type[BaseDatabaseWrapper]) -> Vendor:
    if is_supported(site_class):
        return VENDORS[site_class.vendor]()
    return MySQLStatements() if site_class.vendor == "mysql" else Vendor()


#: Number of recent statements in a message, and the maximum length of each in characters.
_RECENT_STATEMENTS = 5
_STATEMENT_LENGTH = 100


#: Reasons for which statements are refused.
_IN_TRANSACTION = (
    "A smoke test runs in a transaction that is always rolled back, and may neither end it nor"
    " change its limits. Remove statements that begin, commit or roll back a transaction; atomic()"
    " and savepoints work."
)
_SETS_SEQUENCE = (
    "A rollback does not undo that a sequence is set, and production would get duplicate keys."
    " Create rows with the ORM instead of loaddata, and without reset_sequences."
)


class ConnectionPolicy(Protocol):
    """Decides whether a connection may execute statements, and with which limits."""

    def check_allowed(self, alias: str) -> list[Limits]:
        """Return the limits of the open scopes, outermost first.

        Raises `smoketest.isolation.IsolationError` if the thread may not use the database.
        """

    def record_error(self, error: IsolationError) -> None:
        """Record an error that makes the test errored even if its code catches it."""

    def acquire_slot(self, alias: str, name: str) -> None:
        """Wait until no other thread uses a serialized database."""

    def release_slot(self, alias: str) -> None:
        """Allow the next thread to use a serialized database."""


class _DenyAll:
    """The policy of connections that the code under test creates itself."""

    def check_allowed(self, alias: str) -> list[Limits]:
        raise not_private(alias)

    def record_error(self, error: IsolationError) -> None:
        """Do nothing; never called, because no statement is allowed."""

    def acquire_slot(self, alias: str, name: str) -> None:
        """Do nothing; never called, because no transaction begins."""

    def release_slot(self, alias: str) -> None:
        """Do nothing, because no slot was acquired."""


def not_private(alias: str) -> IsolationError:
    """Return the error for the use of a connection that is not private to the test."""
    return IsolationError(
        f"A smoke test may not create its own connection to {alias!r}. Use"
        f" django.db.connections[{alias!r}] in the thread of the test."
    )


class Snapshot(NamedTuple):
    """State of a connection at the beginning of a scope."""

    #: Django's record of the open ``atomic`` blocks.
    atomic_blocks: list[Any]
    savepoint_ids: list[str]
    execute_wrappers: list[Any]
    #: Number of scopes that have begun in the database.
    depth: int
    #: Attributes of Django's connection.
    attributes: Mapping[str, Any]
    #: The driver's connection and its attributes.
    driver: Any
    driver_attributes: Mapping[str, Any]


#: Attributes in which Django and `PrivateConnection` keep the state of a connection. The other
#: attributes are the same in each test.
_STATE = frozenset({
    "_are_outer_scopes_lost", "_closing", "_connect_timeout", "_driver", "_executing",
    "_is_replaced", "_is_tainted", "_opened_attributes", "_opened_driver_attributes", "_opening",
    "_outermost", "_recent", "_savepoints", "_thread_sharing_count", "_thread_sharing_lock",
    "atomic_blocks", "autocommit", "close_at", "closed_in_transaction", "commit_on_exit",
    "errors_occurred", "execute_wrappers", "health_check_done", "health_check_enabled",
    "in_atomic_block", "needs_rollback", "queries_log", "rollback_exc",
    "run_commit_hooks_on_set_autocommit_on", "run_on_commit", "savepoint_ids",
})  # fmt: skip


#: Modules of Django that read limits and settings from the driver's connection. They are trusted.
_READERS = frozenset({
    "django.db.backends.sqlite3.features", "django.db.backends.sqlite3.operations",
})  # fmt: skip


class PrivateConnection(BaseDatabaseWrapper):
    """Mixin for the site's connection class, see `private_connection`.

    The connection reports that it is in an atomic block even before its transaction has begun. An
    ``atomic`` block of the code under test therefore creates a savepoint, never a transaction that
    could commit, and ``on_commit`` hooks do not run. The transaction begins with the first
    statement, so a database that no test uses is never connected to.
    """

    policy: ConnectionPolicy = _DenyAll()
    _driver: Any = None

    #: Connection class of the site.
    site_class: type[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.isolation_vendor = _vendor(type(self))
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(self._guard)
        #: Held while the connection is closed, or killed by another thread.
        self._closing = threading.Lock()
        self._outermost: Any = Atomic(self.alias, savepoint=False, durable=False)
        self._outermost._from_testcase = True  # type: ignore[attr-defined] # so that durable blocks may nest
        #: Savepoints of the scopes that have begun on this connection, outermost first.
        self._savepoints: list[str] = []
        #: The latest statements of the innermost scope.
        self._recent: deque[str] = deque(maxlen=_RECENT_STATEMENTS)
        #: The statement that the code under test is executing.
        self._executing: str | None = None
        #: Whether the database has rolled back the outer scopes.
        self._are_outer_scopes_lost = False
        #: Whether the session state may have changed, so that the session must not be reused.
        self._is_tainted = False
        #: Whether the session was closed for that reason; code under test does not notice.
        self._is_replaced = False
        self._connect_timeout = 0.0
        #: Attributes that opening the connection has set, and those of the driver's connection.
        self._opened_attributes: dict[str, Any] = {}
        self._opened_driver_attributes: Mapping[str, Any] = {}
        #: Entered while the connection is opened.
        self._opening = ExitStack()
        self._set_in_atomic_block()

    # Overrides of Django's methods

    @property
    def connection(self) -> Any:
        """The driver's connection, or None.

        The code under test can do anything with it. Reading it therefore begins the transaction,
        and the connection is not reused: its attributes may have changed, and the next test must
        not be able to use a reference that this one has kept.
        """
        is_open = self._driver is not None or self._is_replaced
        reader = sys._getframe(1).f_globals.get("__name__")
        if is_open and not (self.isolation_vendor.is_trusted or reader in _READERS):
            try:
                self.policy.check_allowed(self.alias)
            except IsolationError:
                return None  # as if it was not open, which Django's own code expects
            self._enter()
            self._is_tainted = True
            with self.isolation_vendor.trusted():
                self.isolation_vendor.exposed(self)
        return self._driver

    @connection.setter
    def connection(self, driver: Any) -> None:
        if not self.isolation_vendor.is_trusted and self._driver is not None:
            with suppress(Exception):  # PyMySQL raises if it is closed
                self.close()  # else the driver's connection would keep its locks
            if driver is not None:
                msg = f"A smoke test may not replace the driver's connection to {self.alias!r}."
                raise IsolationError(msg)
        self._driver = driver

    @property
    def is_connected(self) -> bool:
        """Whether there is a driver connection; may be used in any thread."""
        return self._driver is not None

    def get_autocommit(self) -> bool:
        # Code under test is in an atomic block, even if its transaction has not begun.
        return super().get_autocommit() and self.isolation_vendor.is_trusted

    def create_cursor(self, *args: Any, **kwargs: Any) -> Any:
        with self.isolation_vendor.trusted():
            return super().create_cursor(*args, **kwargs)

    def ensure_connection(self) -> None:
        if not self.isolation_vendor.is_trusted:
            self._enter(is_read=True)  # the statements follow
        with self.isolation_vendor.trusted():
            super().ensure_connection()

    def connect(self) -> None:
        if self.isolation_vendor.is_trusted:
            super().connect()
        else:
            self.ensure_connection()

    def init_connection_state(self) -> None:
        super().init_connection_state()
        # The signal follows, before the transaction begins.
        if connection_created.has_listeners(type(self)) or self._site_receivers():
            self._opening.enter_context(self._restrict_receivers())

    def savepoint(self) -> str | None:
        """Create a savepoint with a name that does not contain the thread id, unlike Django's."""
        if not self._savepoint_allowed():  # type: ignore[attr-defined]
            return None
        self.validate_thread_sharing()
        self.savepoint_state += 1  # restored at the end of the scope
        name = f"s_x{self.savepoint_state}"
        self._savepoint(name)  # type: ignore[attr-defined]
        return name

    @contextmanager
    def temporary_connection(self) -> Iterator[Any]:
        """Yield a cursor without closing the connection, which would end the transaction."""
        with self.cursor() as cursor:
            yield cursor

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        return self.isolation_vendor.connection_params(params, self._connect_timeout)

    def get_new_connection(self, conn_params: Any) -> Any:
        if not self.isolation_vendor.is_trusted:
            self.policy.check_allowed(self.alias)
            msg = (
                f"A smoke test may not create its own driver connection to {self.alias!r}. Use"
                f" django.db.connections[{self.alias!r}]."
            )
            raise IsolationError(msg)
        return super().get_new_connection(conn_params)

    def close(self) -> None:
        """Close the connection for the code under test."""
        self.before_close()
        with self._closing, self.isolation_vendor.trusted():
            super().close()
            if self.closed_in_transaction:  # Django keeps the closed connection
                self.connection = None
                self.isolation_vendor.closed()
                if not self._savepoints:  # nothing was lost
                    self.closed_in_transaction = self.needs_rollback = False

    def validate_no_atomic_block(self) -> None:
        """Refuse an explicit commit, rollback or change of autocommit."""
        if not self.isolation_vendor.is_trusted:
            raise self.refuse("a commit, rollback or change of autocommit by Django")

    def close_if_unusable_or_obsolete(self) -> None:
        """Do nothing: request signals sent by a test must not end its transaction."""

    def close_if_health_check_failed(self) -> None:
        """Do nothing: a lost connection is replaced when the transaction begins."""

    def _guard(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        with self.statement(sql):
            return execute(sql, params, many, context)

    # Interface for the vendor, see `smoketest.isolation.vendor.Guarded`

    @contextmanager
    def statement(self, sql: Any) -> Iterator[None]:
        """Check a statement of the code under test, from Django's cursors or the driver's.

        Begins the transaction if necessary, because a cursor may outlive the scope in which it was
        created. Raises `IsolationError` for a statement that is refused.
        """
        if self.isolation_vendor.is_trusted:
            yield
            return
        text, outer = self._text(sql), self._executing
        limits = self._enter(is_read=self.isolation_vendor.is_read(text))
        if text == outer:  # already checked for Django's cursor
            yield
            return
        self._check_statement(text, limits)
        self._executing = text
        began = monotonic()
        try:
            yield
        except Exception as error:
            attempt = Attempt(sql=text, limits=limits, seconds=monotonic() - began)
            if outer is None:
                with self.isolation_vendor.trusted():
                    self.isolation_vendor.failed(self, error, attempt)
            raise
        finally:
            self._executing = outer

    def refuse(self, what: str, reason: str = _IN_TRANSACTION) -> RefusedStatementError:
        refusal = RefusedStatementError(f"Refused on database {self.alias!r}: {what}. {reason}")
        self.policy.record_error(refusal)
        return refusal

    def before_close(self) -> None:
        """Detect a commit by the code under test while the connection is still open."""
        if not self._savepoints or not self.is_connected or self.isolation_vendor.is_trusted:
            return
        with self.isolation_vendor.trusted():
            try:
                self.isolation_vendor.rollback(self, self._savepoints[0], None)
            except Exception as error:  # noqa: BLE001 - drivers have different exceptions
                if self.isolation_vendor.is_savepoint_missing(error):
                    self.policy.record_error(self._transaction_ended())

    @contextmanager
    def second_connection(self, timeout: float) -> Iterator[Any]:
        """Open a short-lived driver connection; connecting takes at most `timeout` seconds."""
        params = super().get_connection_params()
        with self.isolation_vendor.trusted():
            driver = super().get_new_connection(
                self.isolation_vendor.connection_params(params, timeout)
            )
        with closing(driver):
            yield driver

    def recreate_savepoints(self) -> None:
        self._are_outer_scopes_lost = True
        for savepoint in self._savepoints:
            execute(self, self.ops.savepoint_create_sql(savepoint))

    # Interface for `smoketest.isolation.thread`

    def begin_scope(self) -> Snapshot:
        """Return the state to which `end_scope` returns."""
        self._recent.clear()
        return Snapshot(
            list(self.atomic_blocks),
            list(self.savepoint_ids),
            list(self.execute_wrappers),
            len(self._savepoints),
            self._attributes(),
            self._driver,
            self.isolation_vendor.attributes(self._driver),
        )

    def end_scope(self, scopes: list[Limits], before: Snapshot) -> bool:
        """Roll back the innermost scope.

        Return whether the changes of the outer scopes are still present. Raises `IntegrityError` if
        deferred constraints would have prevented a commit, and `TransactionEndedError` if the code
        under test committed or rolled back the transaction. The scope is closed in either case.
        """
        with self.isolation_vendor.trusted():
            if self._savepoints and self._is_lost():
                self._discard()  # the database rolls back a lost connection
            self.atomic_blocks = before.atomic_blocks
            self.savepoint_ids = before.savepoint_ids
            self.execute_wrappers = before.execute_wrappers
            self.run_on_commit = []
            self.needs_rollback = False
            self._restore_attributes(before)
            if len(self._savepoints) < len(scopes):  # it has not begun in this database
                return self._end_reading(before.depth)
            if not before.depth:  # the enclosing scopes have not used this database
                del self._savepoints[1:]
            outer = scopes[-2] if before.depth else None
            violation = None
            if outer is None:
                try:
                    if self.isolation_vendor.finish(self, self._savepoints[0]):
                        self._savepoints.clear()
                        return self._end_transaction()
                except IntegrityError as error:
                    violation = error
                except Exception:  # noqa: BLE001, S110 - the single steps below find the cause
                    pass
            violation = violation or self._deferred_violation()
            is_outer_intact = self._roll_back(outer)
            if violation is not None and self._is_new_violation():
                raise violation
            return is_outer_intact

    def kill(self) -> None:
        """Release the locks of the connection; called from another thread."""
        with self._closing, self.isolation_vendor.trusted(), suppress(Exception):
            if self.is_connected:
                self.isolation_vendor.kill(self)

    def dispose(self) -> None:
        """Close the connection permanently."""
        self._discard()

    # Implementation

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _STATE}

    def _restore_attributes(self, before: Snapshot) -> None:
        attributes, driver_attributes = before.attributes, before.driver_attributes
        if self._driver is not before.driver:  # it was opened in this scope
            attributes = {**attributes, **self._opened_attributes}
            driver_attributes = self._opened_driver_attributes
        for name in self._attributes().keys() - attributes.keys():
            if not isinstance(getattr(type(self), name, None), cached_property):
                delattr(self, name)
        vars(self).update(attributes)
        for name, value in driver_attributes.items():
            if getattr(self._driver, name, value) is not value:
                setattr(self._driver, name, value)
        if not before.depth:
            self.queries_log.clear()

    def _is_lost(self) -> bool:
        if self.closed_in_transaction or self.connection is None:
            return True
        return self.isolation_vendor.is_unusable(self)

    def _is_new_violation(self) -> bool:
        """Return whether the test caused the violation, so that the rollback removed it."""
        if self.connection is None:
            return True
        try:
            return self.isolation_vendor.is_new_violation(self)
        except Error:
            return True

    def _enter(self, *, is_read: bool = False) -> Limits:
        """Begin the transaction if necessary, and return the limits of the innermost scope.

        On some databases, the transaction does not begin before a statement that may write.
        """
        scopes = self.policy.check_allowed(self.alias)
        if len(self._savepoints) < len(scopes) and not self.closed_in_transaction:
            with self.isolation_vendor.trusted():
                if is_read and not self._savepoints and self.isolation_vendor.reads_in_autocommit:
                    self._begin_reading(scopes[-1])
                else:
                    self._begin(scopes)
        return scopes[-1]

    def _text(self, sql: Any) -> str:
        if isinstance(sql, bytes | bytearray):
            return sql.decode(errors="replace")
        if hasattr(sql, "as_string"):  # psycopg's composed statements
            return str(sql.as_string(self._driver))
        return str(sql)

    def _check_statement(self, text: str, limits: Limits) -> None:
        """Record the statements in `text`, and raise an error for one that is refused."""
        vendor = self.isolation_vendor
        if vendor.sets_sequence(text):
            raise self.refuse(_abbreviate(text), _SETS_SEQUENCE)
        is_body = False
        for words in leading_words(text, vendor.dialect):
            shown = _abbreviate(text)
            is_body |= words[0] == "CREATE"  # the body of a trigger or function may contain END
            if vendor.is_refused(words, text) and not (is_body and words[0] == "END"):
                raise self.refuse(shown)
            if limits.read_only and vendor.is_write(words):
                msg = f"Refused on database {self.alias!r}: {shown}. The test is read_only."
                raise IsolationError(msg)
            self._is_tainted |= vendor.outlives_transaction(words, text)
            self._recent.append(shown)

    def _begin_reading(self, limits: Limits) -> None:
        """Connect if necessary; statements that only read need no transaction."""
        with self._beginning():
            if not self.is_connected:
                blocks, savepoint_ids, hooks = self._pending()
                self._open(limits.statement)
                self._set_in_atomic_block()
                self.atomic_blocks += blocks
                self.savepoint_ids += savepoint_ids
                self.run_on_commit = hooks
            self.isolation_vendor.begin_reading(self, limits)

    def _end_reading(self, depth_before: int) -> bool:
        """End a scope that has no savepoint; return whether the outer scopes are intact."""
        if self.is_connected and not self._savepoints:
            self.isolation_vendor.ended(self)
        if self.closed_in_transaction:
            self._discard()
        return len(self._savepoints) >= depth_before

    def _begin(self, scopes: list[Limits]) -> None:
        with self._beginning():
            if not self._savepoints:
                slot = self.isolation_vendor.slot(str(self.settings_dict["NAME"]))
                if slot is not None:
                    self.policy.acquire_slot(self.alias, slot)
                    self.policy.check_allowed(self.alias)  # it may have timed out meanwhile
                self._begin_transaction(scopes)
            for limits in scopes[len(self._savepoints) :]:
                self._create_savepoint(limits)

    @contextmanager
    def _beginning(self) -> Iterator[None]:
        """Hide statements of isolation from execute wrappers; drop the connection on errors."""
        wrappers, self.execute_wrappers = self.execute_wrappers, []
        try:
            yield
        except BaseException:
            self._discard()
            raise
        finally:
            self.execute_wrappers = wrappers

    def _begin_transaction(self, scopes: list[Limits]) -> None:
        """Begin the transaction; reconnect if the connection was lost after the previous scope."""
        blocks, savepoint_ids, hooks = self._pending()
        if self.connection is not None:
            try:
                self._start(scopes[0])
            except (InterfaceError, OperationalError):
                self._drop()
        if self.connection is None:
            self._open(scopes[-1].statement)
            self._start(scopes[0])
        self.atomic_blocks += blocks
        self.savepoint_ids += savepoint_ids
        self.run_on_commit = hooks

    def _pending(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the blocks that the code under test has entered, and its commit hooks."""
        return self.atomic_blocks[1:], self.savepoint_ids, self.run_on_commit

    def _start(self, limits: Limits) -> None:
        self._unset_in_atomic_block()
        self._outermost.__enter__()
        self._create_savepoint(limits)

    def _open(self, timeout: float) -> None:
        self._connect_timeout = timeout
        self._is_replaced = False
        before = self._attributes()
        with self._opening:
            super().ensure_connection()
            # Django sends the signal with the class of the connection, which is a private one here.
            for receiver in self._site_receivers():
                receiver(signal=connection_created, sender=self.site_class, connection=self)
        self.isolation_vendor.opened(self)
        self._opened_attributes |= {
            name: value
            for name, value in self._attributes().items()
            if name not in before or before[name] is not value
        }
        self._opened_driver_attributes = self.isolation_vendor.attributes(self._driver)
        self.policy.check_allowed(self.alias)  # the test may have timed out while connecting

    @contextmanager
    def _restrict_receivers(self) -> Iterator[None]:
        """Refuse writes by receivers of `connection_created`."""
        try:
            with self.isolation_vendor.restrict_receivers(self, self._outermost):
                yield
        except DatabaseError as error:
            msg = (
                f"A receiver of connection_created failed on database {self.alias!r}: {error}. In a"
                " smoke test, receivers may change settings of the session, but not write."
            )
            raise IsolationError(msg) from error

    def _site_receivers(self) -> list[Any]:
        """Return receivers of `connection_created` that are connected to the site's class only."""
        everyone, _ = connection_created._live_receivers(type(self))
        of_site, _ = connection_created._live_receivers(self.site_class)
        return [receiver for receiver in of_site if receiver not in everyone]

    def _create_savepoint(self, limits: Limits) -> None:
        # The code under test does not know the name, and the statistics of the server, which keep
        # each statement by its text, do not grow with each run.
        hmac = salted_hmac(__name__, str(len(self._savepoints)), algorithm="sha256")
        savepoint = f"smoketest_{hmac.hexdigest()[:16]}"
        self.isolation_vendor.begin(self, savepoint, limits)
        self._savepoints.append(savepoint)

    def _deferred_violation(self) -> IntegrityError | None:
        try:
            self.isolation_vendor.check_constraints(self)
        except IntegrityError as violation:
            return violation
        except Error:
            pass  # the transaction was already broken, and the test has seen the error
        return None

    def _roll_back(self, outer: Limits | None) -> bool:
        """Roll back the innermost scope; return whether the outer scopes are intact."""
        savepoint = self._savepoints.pop()
        try:
            self.isolation_vendor.rollback(self, savepoint, outer)
        except Exception as error:  # including a driver's warning that was turned into an error
            ended = self._transaction_ended()
            self._discard()
            if not self.isolation_vendor.is_savepoint_missing(error):
                return False  # the connection is lost, so the database rolls back
            raise ended from error
        if outer is None:
            return self._end_transaction()
        are_lost, self._are_outer_scopes_lost = self._are_outer_scopes_lost, False
        return not are_lost

    def _end_transaction(self) -> bool:
        """End the transaction after its outermost scope; return whether the scope was intact."""
        are_lost, self._are_outer_scopes_lost = self._are_outer_scopes_lost, False
        if self._is_tainted:
            self._discard()
            self._is_replaced = True
        else:
            self.isolation_vendor.ended(self)
            self.needs_rollback = True
            self._outermost.__exit__(None, None, None)
            self._set_in_atomic_block()
            self.policy.release_slot(self.alias)
        return not are_lost

    def _transaction_ended(self) -> TransactionEndedError:
        return TransactionEndedError(
            f"The transaction on database {self.alias!r} was ended by the test, so its changes may"
            " have been committed. Remove COMMIT, ROLLBACK and statements that commit implicitly"
            f" from smoke tests. Last statements: {'; '.join(self._recent) or 'none'}"
        )

    def _discard(self) -> None:
        """Drop the connection in any state; the next statement connects again."""
        self._savepoints.clear()
        self._are_outer_scopes_lost = False
        self._drop()
        self.closed_in_transaction = False
        self._set_in_atomic_block()
        self.policy.release_slot(self.alias)

    def _drop(self) -> None:
        """Close the connection through the backend, which may return it to its pool."""
        with self._closing, self.isolation_vendor.trusted():
            if self.connection is not None:
                with suppress(Exception):
                    self.isolation_vendor.ended(self)
                    self._close()  # type: ignore[attr-defined] # of the backend
            self.connection = None
            self._is_tainted = False
            self.isolation_vendor.closed()

    def _set_in_atomic_block(self) -> None:
        self.in_atomic_block = True
        self.atomic_blocks = [self._outermost]
        self.savepoint_ids = []
        self.needs_rollback = False
        self.run_on_commit = []

    def _unset_in_atomic_block(self) -> None:
        self.in_atomic_block = False
        self.atomic_blocks = []
        self.savepoint_ids = []


def private_connection(
    connection: BaseDatabaseWrapper, policy: ConnectionPolicy
) -> PrivateConnection:
    """Return an unopened private connection to the same database, for the calling thread."""
    site_class: Any = type(connection)
    settings = _vendor(site_class).private_settings(connection.settings_dict)
    private = _private_class(site_class)(settings, connection.alias)
    private.policy = policy
    return private


#: Packages whose backends add a connection pool to a backend of Django.
_POOLS = frozenset({"dj_db_conn_pool", "django_db_geventpool"})
#: Attributes of every class, and the method that a pool's backend may need.
_OF_CLASS = frozenset({"__dict__", "__doc__", "__init__", "__module__", "__weakref__"})


@cache
def _private_class(site_class: type[Any]) -> type[PrivateConnection]:
    bases = (PrivateConnection, _without_pool(site_class), site_class)
    return type("PrivateConnection", bases, {"site_class": site_class})


def _without_pool(site_class: type[Any]) -> type[Any]:
    """Return a class with the attributes that a pool has overridden in the site's class.

    A private connection is never taken from a pool: the session of a smoke test would return to it,
    with its settings and locks, and hung tests would exhaust it.
    """
    pool_classes = [c for c in site_class.__mro__ if c.__module__.partition(".")[0] in _POOLS]
    others = [c for c in site_class.__mro__ if c not in pool_classes]
    attributes: dict[str, Any] = {}
    for name in {name for pool_class in pool_classes for name in vars(pool_class)} - _OF_CLASS:
        defining = next((c for c in site_class.__mro__ if name in vars(c)), None)
        original = next((c for c in others if name in vars(c)), None)
        if defining in pool_classes and original is not None:
            attributes[name] = vars(original)[name]
    return type("WithoutPool", (), attributes)


def _abbreviate(statement: str) -> str:
    """Return the statement on one line, truncated to `_STATEMENT_LENGTH` characters."""
    line = " ".join(statement[: 4 * _STATEMENT_LENGTH].split())
    return line if len(line) <= _STATEMENT_LENGTH else f"{line[:_STATEMENT_LENGTH]}..."
