"""Built-in checks: apps with smoke tests that are enabled in ``INSTALLED_APPS``."""
