"""Smoke tests of Celery: queues, workers and beat."""
