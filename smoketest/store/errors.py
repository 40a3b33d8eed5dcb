"""What the results store raises."""

from __future__ import annotations


class StoreError(Exception):
    """The results store cannot be read or written now; the message says why."""
