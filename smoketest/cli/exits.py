"""Exit codes of ``manage.py smoketest``."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, which are stable across releases."""

    PASSED = 0
    #: A critical test did not pass.
    FAILED = 1
    #: An option or a setting is invalid, or a file or a push failed.
    USAGE = 2
    #: The selection is empty.
    NOTHING = 3
    #: A deadline or a timeout was reached.
    TIMED_OUT = 4
    #: SIGINT: 128 plus the number of the signal, as in shells.
    INTERRUPTED = 130
    #: SIGTERM.
    TERMINATED = 143
