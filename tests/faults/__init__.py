"""What a smoke test may do wrong, on each real database, and what comes of it: nothing."""
