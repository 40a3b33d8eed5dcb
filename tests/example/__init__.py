"""What the example site does besides being tested by its own smoke tests."""
