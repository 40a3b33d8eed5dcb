"""Signals sent by the package."""

from django.dispatch import Signal

#: Sent after each run. Argument: ``report``, a `smoketest.results.Report`.
run_finished = Signal()
