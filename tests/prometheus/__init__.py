"""Tests of the files in ``prometheus/``: rules and example configuration."""
