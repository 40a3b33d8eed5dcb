"""End-to-end tests with the example site, Prometheus, Alertmanager and the command line."""
