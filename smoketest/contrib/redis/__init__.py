"""Smoke tests of the Redis and Valkey servers that the site uses."""
