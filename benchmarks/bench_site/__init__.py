"""One site for each peer that the benchmarks compare, with the same suites."""
