"""Signals sent by the package."""

from django.dispatch import Signal

#: Sent when a run ends, in the process that executed it. The argument ``report`` is a
#: `smoketest.results.Report`, in which the secrets of the site are redacted. The signal is also
#: sent for runs with a filter and for runs that fail-fast or the deadline stopped, but not for an
#: interrupted run, nor when a stored report is served.
#:
#: Receivers are called after all tests have been rolled back, and before the report is returned, so
#: they should be fast. Their exceptions are logged and do not affect the run
#: (`django.dispatch.Signal.send_robust`)::
#:
#:     @receiver(run_finished)
#:     def post_to_chat(sender, report, **kwargs):
#:         for result in report.problems:
#:             chat.post(f"{result.id} {result.outcome}: {result.message}")
run_finished = Signal()
