"""Real servers for tests: each a context manager that starts one and surely stops it."""
