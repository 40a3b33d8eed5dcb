"""How ``manage.py smoketest`` ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; they never change their meaning."""

    PASSED = 0
    #: A critical test did not pass.
    FAILED = 1
    #: The command or the settings are wrong.
    USAGE = 2
    #: No test was selected.
    NOTHING = 3
    #: A deadline or a time-out ended it.
    TIMED_OUT = 4
    #: Ctrl-C, as shells count it: 128 and the number of the signal.
    INTERRUPTED = 130
    #: SIGTERM
    TERMINATED = 143
