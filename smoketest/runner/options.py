"""How the site has its smoke tests run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run; times are in seconds."""

    #: Names or labels of apps to leave out.
    skip_apps: Collection[str]
    #: For tests that declare none: how long they may take, and when they count as slow.
    timeout: float
    slow_after: float
    #: Deadline of the whole run.
    run_timeout: float
    #: Longest wait for a row or table lock.
    lock_timeout: float
    #: Threads; 0 runs in the calling thread, without time-outs.
    workers: int
    release: str = ""
