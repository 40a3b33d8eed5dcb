"""Create the coordinator, the shared state and the metrics collector from the settings."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from time import monotonic, time
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.template import engines
from django.urls import NoReverseMatch, get_resolver, get_script_prefix, reverse
from django.utils.module_loading import import_string

from smoketest.conf import Conf, conf, is_set_by_a_test, secrets_of_site
from smoketest.coordination.coordinator import Coordinator, is_overdue
from smoketest.exporters.exposition import Exposition, renderer
from smoketest.metrics import Context, SmokeTestCollector
from smoketest.results import Result
from smoketest.runner.options import RunOptions
from smoketest.store import MemoryStore, ResultsStore, SharedStore, Snapshot, Status, StoreError
from smoketest.store.abandoned import AbandonedOnHost, LocallyAbandoned
from smoketest.store.directory import StateError, StateFolder, open_state_folder
from smoketest.store.locks import HostLock, Lock, ProcessLock

logger = logging.getLogger("smoketest")

#: Maximum number of requests per host that wait for a run.
MAX_WAITERS = 2


class State(NamedTuple):
    """The objects that hold results, metrics and locks from one run to the next."""

    store: ResultsStore
    exposition: Exposition
    abandoned: AbandonedOnHost | LocallyAbandoned
    run_lock: Lock
    waiting_locks: tuple[Lock, ...]
    #: Reason why the state is only that of this process; empty if it is shared.
    problem: str = ""


def coordinator() -> Coordinator:
    """Return a coordinator with the current settings.

    Raise `django.core.exceptions.ImproperlyConfigured`; if a setting is invalid, its subclass
    `smoketest.conf.InvalidSettingError`.
    """
    shared = state()
    process_age = monotonic() - _app_config().code_loaded_at
    return Coordinator(
        options=run_options(),
        store=shared.store,
        abandoned=shared.abandoned,
        run_lock=shared.run_lock,
        waiting_locks=shared.waiting_locks,
        # The results of another unit test are too old for any request.
        max_age=0.0 if is_unit_test() else conf.max_age,
        code_loaded_at=time() if is_unit_test() else time() - process_age,
        secrets=secrets_of_site,
    )


def _app_config() -> Any:
    try:
        return apps.get_app_config("smoketest")
    except LookupError:
        msg = '"smoketest" is not in INSTALLED_APPS. Add it; including the URLs is not enough.'
        raise ImproperlyConfigured(msg) from None


def run_options() -> RunOptions:
    return RunOptions(
        skip_apps=conf.skip_apps,
        timeout=conf.timeout,
        slow_after=conf.slow_after,
        run_timeout=conf.run_timeout,
        lock_timeout=conf.lock_timeout,
        workers=conf.workers,
        release=conf.release,
        load_site=load_site,
    )


def load_site() -> None:
    """Import the URLconf, the middleware, the template libraries and the test client.

    Otherwise, this would count as the duration of the first test that requests a page, or resolves
    a URL, and several threads would do it at the same time. Errors are ignored, because they are
    reported by the tests that need the module.
    """
    with suppress(Exception):
        get_resolver().url_patterns  # noqa: B018 - imports the modules
    for name in settings.MIDDLEWARE:
        with suppress(Exception):
            import_string(name)
    with suppress(Exception):
        engines.all()
    with suppress(Exception):
        import_module("smoketest.client")


def state() -> State:
    """Return the state that the processes of this host share, or else that of this process."""
    if is_unit_test():
        return _unit_test_state()
    try:
        return _shared_state(state_folder())
    except StateError as error:
        _log_once(str(error))
        return _process_state()._replace(problem=str(error))


def state_folder() -> StateFolder:
    """Return the state directory. Raise `smoketest.store.directory.StateError`."""
    # The name of the default directory contains those of the test databases.
    explicit = "" if is_unit_test() else str(conf.state_dir or "")
    identity = shared_site_identity() if explicit else site_identity()
    return open_state_folder(explicit, os.environ, identity)


#: Keys that identify a database. Django adds missing ones when it first uses a database.
_ADDRESS = ("ENGINE", "HOST", "PORT", "NAME")


def is_unit_test() -> bool:
    """Return whether a test runner has set up this process, so that results are not production's.

    Tests that set ``SMOKETEST_STATE_DIR`` themselves, for example with `override_settings`, use
    that directory as the site does.
    """
    utils: Any = sys.modules.get("django.test.utils")  # slow to import
    has_test_environment = hasattr(utils, "_TestState") and hasattr(utils._TestState, "saved_data")
    return has_test_environment and not is_set_by_a_test(Conf.state_dir.name)


def shared_site_identity() -> list[str]:
    """Return values that differ between sites, but not between the processes of a site.

    These may have settings modules of their own, such as that of cron, with other aliases, ports or
    engines of databases.
    """
    database = settings.DATABASES.get(DEFAULT_DB_ALIAS, {})
    names = [str(database.get(key) or "") for key in ("HOST", "NAME")]
    return [str(getattr(settings, "ROOT_URLCONF", "")), *names]


def site_identity() -> list[str]:
    """Return values that differ between the sites of a host; none of them is a password."""
    databases = [
        " ".join([alias, *(str(database.get(key) or "") for key in _ADDRESS)])
        for alias, database in sorted(settings.DATABASES.items())
    ]
    return [str(settings.SETTINGS_MODULE), str(getattr(settings, "ROOT_URLCONF", "")), *databases]


def status(store: ResultsStore) -> Status | None:
    """Return the status of the store, or None if it cannot be read.

    A store that this process can read, but not write, is not up. After a failed write, and while a
    run is overdue, this is tested by a write. Otherwise, the answer would depend on which of the
    processes have tried to start a run since the disk became full.
    """
    current = _read_status(store)
    if current is None or not current.is_up:
        return current
    has_failed = store.write_error is not None
    if has_failed or is_overdue(current, conf.interval):
        try:
            store.probe()
        except StoreError as error:
            if not has_failed:
                logger.error("The results store cannot be written. %s", error)  # noqa: TRY400
            return replace(current, is_up=False)
    return current


def _read_status(store: ResultsStore) -> Status | None:
    try:
        return store.status()
    except StoreError:
        return None


def metrics_context(state: State, status: Status | None) -> Context:
    """Return the current values of the metrics that do not come from results."""
    return Context(
        interval=conf.interval,
        page_url=page_url(),
        release=conf.release,
        project=conf.project,
        abandoned_tests=state.abandoned.count(),
        is_paused=bool(status and status.pause),
    )


def page_url() -> str:
    """Return the URL of the HTML page; empty without ``SMOKETEST_PUBLIC_URL`` or our URLs.

    ``SMOKETEST_PUBLIC_URL`` includes the script prefix. The prefix is removed from the path, since
    it is only set during requests, and the URL must be the same in background runs.
    """
    public_url = conf.public_url
    if not public_url:
        return ""
    try:
        path = reverse("smoketest:smoketest", urlconf=conf.urlconf or None)
    except (NoReverseMatch, ImportError):  # no URLconf includes smoketest.urls; see the checks
        return ""
    return public_url.rstrip("/") + path.removeprefix(get_script_prefix().rstrip("/"))


def collector() -> SmokeTestCollector:
    """Return a collector for a prometheus_client registry; the store is read at each scrape."""

    def snapshot() -> Snapshot:
        store = state().store
        current = status(store)
        try:
            return replace(store.snapshot(), is_up=current is not None and current.is_up)
        except StoreError:
            return Snapshot(is_up=False, is_shared=False)

    def context() -> Context:
        shared = state()
        return metrics_context(shared, _read_status(shared.store))

    return SmokeTestCollector(snapshot, context)


def _results_context() -> Context:
    return Context(interval=conf.interval, page_url=page_url(), project=conf.project)


@cache
def _shared_state(folder: StateFolder) -> State:
    store = SharedStore(folder, renderer(_results_context))
    return State(
        store=store,
        exposition=Exposition(store),
        abandoned=AbandonedOnHost(folder),
        run_lock=HostLock(folder, "run"),
        waiting_locks=tuple(HostLock(folder, f"waiting-{n}") for n in range(MAX_WAITERS)),
    )


class _UnitTestStore(MemoryStore):
    """Results of unit tests. The runs of a test carry over no result of another one."""

    def latest_results(self) -> dict[str, Result]:
        return {}


@cache
def _unit_test_state() -> State:
    return _state_of_process(_UnitTestStore(renderer(_results_context)))


@cache
def _process_state() -> State:
    return _state_of_process(MemoryStore(renderer(_results_context)))


def _state_of_process(store: MemoryStore) -> State:
    return State(
        store=store,
        exposition=Exposition(store),
        abandoned=LocallyAbandoned(),
        run_lock=ProcessLock(),
        waiting_locks=tuple(ProcessLock() for _ in range(MAX_WAITERS)),
    )


@cache
def _log_once(problem: str) -> None:
    logger.error("There is no shared results store. %s", problem)
