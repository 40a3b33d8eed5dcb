"""The example shop with smoke tests that misbehave, for `benchmarks/soak.py`."""
