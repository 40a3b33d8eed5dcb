"""Apps of ready-made smoke tests: each is added to ``INSTALLED_APPS`` and has settings."""
