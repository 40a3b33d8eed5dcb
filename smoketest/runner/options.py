"""Options of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run, from settings or the command line; times are in seconds."""

    #: Names or labels of apps whose smoke tests are ignored.
    skip_apps: Collection[str]
    #: Default timeout of a test.
    timeout: float
    #: Default slow threshold of a test.
    slow_after: float
    #: Deadline of the run.
    run_timeout: float
    #: Maximum wait for a row or table lock.
    lock_timeout: float
    #: Maximum number of threads; 0 runs the tests in the calling thread, without timeouts.
    workers: int
    release: str = ""
    #: Imports code of the site that most tests need, so that the first test is not charged for it.
    load_site: Callable[[], object] = lambda: None
