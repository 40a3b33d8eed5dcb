"""App with smoke tests and settings for the browser tests."""
