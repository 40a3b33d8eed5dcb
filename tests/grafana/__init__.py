"""The dashboards, without a Grafana server."""
