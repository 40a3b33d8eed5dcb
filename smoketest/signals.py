"""What the package tells the rest of the site."""

from django.dispatch import Signal

#: Sent after each run, with ``report``, a `smoketest.results.Report`.
run_finished = Signal()
