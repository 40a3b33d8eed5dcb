"""Other ways for the metrics to reach Prometheus than a scrape of the site.

- `textfile`: a file for the textfile collector of node_exporter
- `pushgateway`: a push, for hosts that nothing can scrape
- `server`: a small server of its own, for hosts without a web server
"""


class ExportError(Exception):
    """The metrics could not be handed over; the message says why and what to do."""
