"""One module for each output format: pure functions from a report to a string."""
