"""Finds the tests of a run, on a thread of its own: the import of a smoke module may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, time  # bound here: a smoke module may patch the module

from smoketest.isolation import IsolationError, ThreadIsolation, is_isolated
from smoketest.results import Outcome, Selection
from smoketest.runner.discovery import Suite, collection_error, discover
from smoketest.runner.failures import from_thread
from smoketest.runner.options import RunOptions
from smoketest.runner.threads import isolated_thread


def find(selection: Selection, options: RunOptions) -> Suite:
    """Discover the selected tests where every use of a database is refused.

    A smoke module whose import does not end within the time of a run is a collection error, and
    all that is found; nothing is imported again while that import goes on.
    """
    if is_isolated():
        msg = (
            "A smoke test may not run the smoke tests, which would wait for itself: leave their URL"
            " and their command out of it."
        )
        raise IsolationError(msg)
    if not options.workers:
        with ThreadIsolation():
            return _discover(selection, options, lambda _: None)
    with _discovery_lock:
        hung = next((discovery for discovery in _discoveries if discovery.has_hung), None)
        discovery = hung or _Discovery(selection, options)
        if hung is None:
            _discoveries.add(discovery)
    if hung is None:
        discovery.start()
        discovery.join(options.run_timeout)
    return discovery.result(options.run_timeout)


class _Discovery(threading.Thread):
    """Imports smoke modules; it may never end."""

    def __init__(self, selection: Selection, options: RunOptions) -> None:
        super().__init__(name="smoketest-discovery", daemon=True)
        self._selection = selection
        self._options = options
        self._importing = ("", "")
        self._began_at = time()
        self._began = monotonic()
        self._found: Suite | None = None
        self._error: BaseException | None = None
        self.has_hung = False

    def run(self) -> None:
        try:
            with isolated_thread():
                self._found = _discover(self._selection, self._options, self._note)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error
        finally:
            with _discovery_lock:
                _discoveries.discard(self)

    def result(self, timeout: float) -> Suite:
        """What was found; raises what went wrong, other than an import."""
        with _discovery_lock:
            self.has_hung = self in _discoveries
        if self._error is not None:
            raise self._error
        if self._found is not None:
            return self._found
        error = collection_error(
            *self._importing,
            outcome=Outcome.TIMED_OUT,
            failure=from_thread(f"it takes more than {timeout:g} s", self.ident),
            started_at=self._began_at,
            duration=monotonic() - self._began,
        )
        return Suite(collection_errors=(error,))

    def _note(self, importing: tuple[str, str]) -> None:
        self._importing = importing


_discovery_lock = threading.Lock()
#: Those that go on; one that has hung stands in for all others.
_discoveries: set[_Discovery] = set()


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
