"""Makes, from the settings, the objects that answer a request or run a command."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, get_script_prefix, reverse

from smoketest.conf import conf, secrets_of_site
from smoketest.coordination.coordinator import Coordinator
from smoketest.exporters.exposition import Exposition, renderer
from smoketest.metrics import Context, SmokeTestCollector
from smoketest.runner.options import RunOptions
from smoketest.store import MemoryStore, ResultsStore, SharedStore, Snapshot, Status, StoreError
from smoketest.store.abandoned import AbandonedOnHost, LocallyAbandoned
from smoketest.store.directory import StateError, StateFolder, open_state_folder
from smoketest.store.locks import HostLock, Lock, ProcessLock

logger = logging.getLogger("smoketest")

#: How many requests of a host may wait for a run.
MAX_WAITERS = 2


class State(NamedTuple):
    """What outlives a run."""

    store: ResultsStore
    exposition: Exposition
    abandoned: AbandonedOnHost | LocallyAbandoned
    run_lock: Lock
    waiting_locks: tuple[Lock, ...]


def coordinator() -> Coordinator:
    """The coordinator of this process.

    Raises `django.core.exceptions.ImproperlyConfigured`, for a setting
    `smoketest.conf.InvalidSettingError`.
    """
    shared = state()
    return Coordinator(
        options=run_options(),
        store=shared.store,
        abandoned=shared.abandoned,
        run_lock=shared.run_lock,
        waiting_locks=shared.waiting_locks,
        max_age=conf.max_age,
        code_loaded_at=_app_config().code_loaded_at,
        secrets=secrets_of_site,
    )


def _app_config() -> Any:
    try:
        return apps.get_app_config("smoketest")
    except LookupError:
        msg = 'Add "smoketest" to INSTALLED_APPS: the URLs alone cannot run the smoke tests.'
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
    )


def state() -> State:
    """The shared state of the site on this host, or that of this process if there is none."""
    try:
        return _shared_state(state_folder())
    except StateError as error:
        _log_once(str(error))
        return _process_state()


def state_folder() -> StateFolder:
    """Where the state of the site lives. Raises `smoketest.store.directory.StateError`."""
    return open_state_folder(str(conf.state_dir or ""), os.environ, site_identity())


def site_identity() -> list[str]:
    """What tells one site on a host from another; passwords are not part of it."""
    databases = [
        f"{alias} {database.get('ENGINE')} {database.get('HOST')} {database.get('PORT')}"
        f" {database.get('NAME')}"
        for alias, database in sorted(settings.DATABASES.items())
    ]
    return [str(settings.SETTINGS_MODULE), str(getattr(settings, "ROOT_URLCONF", "")), *databases]


def status(store: ResultsStore) -> Status | None:
    """The status of the store, or None if it cannot be read."""
    try:
        return store.status()
    except StoreError:
        return None


def metrics_context(state: State, status: Status | None) -> Context:
    """What the metrics say besides results, at this moment."""
    return Context(
        interval=conf.interval,
        page_url=page_url(),
        release=conf.release,
        abandoned_tests=state.abandoned.count(),
        is_paused=bool(status and status.pause),
    )


def page_url() -> str:
    """The address of the page for people; empty if the site has none, or does not say its own.

    The public address holds what the server strips from a path: it is the same for a run that a
    request makes and for one in the background.
    """
    public_url = conf.public_url
    if not public_url:
        return ""
    try:
        path = reverse("smoketest:smoketest")
    except NoReverseMatch:  # the command alone runs the tests, or a view of 1.x does
        return ""
    return public_url.rstrip("/") + path.removeprefix(get_script_prefix().rstrip("/"))


def collector() -> SmokeTestCollector:
    """The metrics for a registry of prometheus_client; asks for nothing until it is collected."""

    def snapshot() -> Snapshot:
        try:
            return state().store.snapshot()
        except StoreError:
            return Snapshot(is_up=False, is_shared=False)

    def context() -> Context:
        shared = state()
        return metrics_context(shared, status(shared.store))

    return SmokeTestCollector(snapshot, context)


def _results_context() -> Context:
    return Context(interval=conf.interval, page_url=page_url())


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


@cache
def _process_state() -> State:
    store = MemoryStore(renderer(_results_context))
    return State(
        store=store,
        exposition=Exposition(store),
        abandoned=LocallyAbandoned(),
        run_lock=ProcessLock(),
        waiting_locks=tuple(ProcessLock() for _ in range(MAX_WAITERS)),
    )


@cache
def _log_once(problem: str) -> None:
    logger.error("Results are kept in the memory of this process alone. %s", problem)
