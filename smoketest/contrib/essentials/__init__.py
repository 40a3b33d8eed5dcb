"""Smoke tests that nearly every site wants: databases, caches, storages, mail and the host."""
