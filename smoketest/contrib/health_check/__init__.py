"""The checks of an installed django-health-check as smoke tests."""
