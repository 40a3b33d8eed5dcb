"""Discover and run smoke tests on supervised threads."""
