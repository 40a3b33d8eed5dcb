"""Implementation of the management commands."""
