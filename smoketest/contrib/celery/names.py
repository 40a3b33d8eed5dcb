"""What the site's processes and its workers call things, so that they understand each other."""

from __future__ import annotations

#: The task that goes round.
PING = "smoketest.contrib.celery.ping"
#: Command by which a task tells the main process of its worker that it has run.
NOTE = "smoketest_note"
#: Command that asks a worker for what was noted.
NOTES = "smoketest_notes"
#: What beat's task notes.
HEARTBEAT = "heartbeat"
#: The entry in beat's schedule.
ENTRY = "smoketest heartbeat"
