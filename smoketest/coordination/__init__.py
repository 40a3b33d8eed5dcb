"""Answer requests for results: run, wait for the run in progress, or serve a stored report."""
