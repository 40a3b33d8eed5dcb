"""Smoke tests of Celery: its queues, its workers and beat."""
