"""Names that the processes of the site and its workers share."""

from __future__ import annotations

#: The round-trip task.
PING = "smoketest.contrib.celery.ping"
#: Control command with which a task notes in the main process of its worker that it has run.
NOTE = "smoketest_note"
#: Inspect command that returns the notes of a worker.
NOTES = "smoketest_notes"
#: Key of the task that beat sends.
HEARTBEAT = "heartbeat"
#: Name of the entry in beat's schedule.
ENTRY = "smoketest heartbeat"
