"""The example site, Prometheus and the command line, all of them real."""
