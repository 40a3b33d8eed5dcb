"""The parts of ``manage.py smoketest``."""
