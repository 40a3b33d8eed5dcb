"""The parts of the HTTP endpoints."""
