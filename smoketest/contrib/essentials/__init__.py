"""Smoke tests of databases, caches, storages, mail, error pages, static files and the host."""
