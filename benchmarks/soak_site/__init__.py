"""The example shop with misbehaving smoke tests, for `benchmarks/soak.py`."""
