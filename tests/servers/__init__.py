"""Context managers that start real servers for tests and always stop them."""
