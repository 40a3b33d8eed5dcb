"""Smoke tests of URLs, on this site and on other servers."""
