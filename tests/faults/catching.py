"""Statements that catch their cancellation."""

from __future__ import annotations

from tests.faults.fault import fault, sql, times_out, write

STOPPED = (
    "The timeout is reported within half a second, and locks are released within another second."
)


@fault(STOPPED, postgresql=times_out(), timeout=1)
def catches_cancellation() -> None:
    """Waits in a block of PL/pgSQL that catches query_canceled and waits again."""
    write()
    sql(
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(30);"
        " EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
