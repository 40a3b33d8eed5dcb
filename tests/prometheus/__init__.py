"""Tests of what stands in prometheus/: rules and example configuration."""
