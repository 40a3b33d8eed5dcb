"""Smoke tests of the essentials: one class for each target."""
