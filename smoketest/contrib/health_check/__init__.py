"""Smoke tests that run the checks of django-health-check."""
