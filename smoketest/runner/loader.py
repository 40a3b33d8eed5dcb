"""Discovery in a separate thread, because the import of a smoke module may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from time import monotonic, time  # imported by name, because a smoke module may patch time

from django.db import connections

from smoketest.isolation import IsolationError, ThreadIsolation, is_isolated
from smoketest.results import Outcome, Selection
from smoketest.runner.discovery import Suite, collection_error, discover
from smoketest.runner.failures import from_thread
from smoketest.runner.options import RunOptions
from smoketest.runner.threads import isolated_thread


def find(selection: Selection, options: RunOptions) -> Suite:
    """Discover the selected tests; smoke modules may not use databases while they are imported.

    If an import exceeds the run timeout, the returned suite contains only a collection error. While
    that import is in progress, further calls return the same error without importing anything.

    Raises `smoketest.isolation.IsolationError` in a smoke test.
    """
    if is_isolated():
        msg = (
            "A smoke test may not run the smoke tests, because the run would wait for itself."
            " Remove the request or command that runs them."
        )
        raise IsolationError(msg)
    if not options.workers:
        options.load_site()
        with ThreadIsolation():
            return _discover(selection, options, lambda _: None)
    with _discovery_lock:
        hung = next((discovery for discovery in _discoveries if discovery.has_hung), None)
        discovery = hung or _DiscoveryThread(selection, options)
        if hung is None:
            _discoveries.add(discovery)
    if hung is None:
        Context().run(discovery.start)  # see supervisor.run
        discovery.join(options.run_timeout)
    return discovery.result(options.run_timeout)


class _DiscoveryThread(threading.Thread):
    """A thread that imports smoke modules; it may hang."""

    def __init__(self, selection: Selection, options: RunOptions) -> None:
        super().__init__(name="smoketest-discovery", daemon=True)
        self._selection = selection
        self._options = options
        self._importing = ("", "URLconf")
        self._started_at = time()
        self._start_clock = monotonic()
        self._suite: Suite | None = None
        self._error: BaseException | None = None
        self.has_hung = False

    def run(self) -> None:
        try:
            self._load_site()
            with isolated_thread():
                self._suite = _discover(self._selection, self._options, self._set_importing)
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error
        finally:
            with _discovery_lock:
                _discoveries.discard(self)

    def _load_site(self) -> None:
        """Load the site outside of isolation: its modules may use databases, as in a request."""
        try:
            self._options.load_site()
        finally:
            connections.close_all()

    def result(self, timeout: float) -> Suite:
        """Return the suite; raises the exception of the thread if discovery itself failed."""
        with _discovery_lock:
            self.has_hung = self in _discoveries
        if self._error is not None:
            raise self._error
        if self._suite is not None:
            return self._suite
        error = collection_error(
            *self._importing,
            outcome=Outcome.TIMED_OUT,
            failure=from_thread(f"timed out after {timeout:g} s", self.ident),
            started_at=self._started_at,
            duration=monotonic() - self._start_clock,
        )
        return Suite(collection_errors=(error,))

    def _set_importing(self, importing: tuple[str, str]) -> None:
        self._importing = importing


_discovery_lock = threading.Lock()
#: Discoveries in progress. If one hangs, later calls return its result.
_discoveries: set[_DiscoveryThread] = set()


def _discover(
    selection: Selection, options: RunOptions, importing: Callable[[tuple[str, str]], None]
) -> Suite:
    return discover(
        selection,
        skip_apps=options.skip_apps,
        timeout=options.timeout,
        slow_after=options.slow_after,
        importing=importing,
    )
