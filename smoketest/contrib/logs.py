"""Keep messages for developers of redis-py out of the log of the site.

For each connection to a server without maintenance notifications, redis-py logs a message at the
level DEBUG, and a smoke test opens a new connection in each run.
"""

from __future__ import annotations

import logging

from smoketest.isolation import is_isolated

_LOGGERS = ("redis.connection", "redis.client")


def _is_shown(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or not is_isolated()


def hide_debug_messages_of_redis() -> None:
    """Hide the messages of smoke tests; those of other code are not changed."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_shown)  # does nothing if it was added before
