"""Exporters of the metrics, for sites that Prometheus cannot scrape.

- `textfile`: a file for the textfile collector of node_exporter
- `pushgateway`: a push to a Pushgateway
- `server`: a metrics server in the process of the management command
- `django_prometheus`: the metrics page of django-prometheus
- `exposition`: the metrics page of the site
"""


class ExportError(Exception):
    """The metrics could not be exported; the message includes the reason and a solution."""
