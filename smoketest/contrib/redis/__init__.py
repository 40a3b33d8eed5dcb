"""Smoke tests of the Redis servers that the site uses."""
