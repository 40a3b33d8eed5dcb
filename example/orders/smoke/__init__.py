"""Smoke tests of orders. Every submodule of a smoke package is discovered."""
