"""Access control, query parameters and HTML pages of the endpoints."""
