"""The benchmarked site, with the same suites for each peer."""
