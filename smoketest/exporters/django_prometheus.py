"""The metrics on the page of django-prometheus, for sites that scrape that one already.

https://github.com/django-commons/django-prometheus
"""

from __future__ import annotations

import prometheus_client
from django_prometheus import exports
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.registry import Collector


def install(collector: Collector) -> None:
    """Add the collector to what django-prometheus exports, in both of its modes.

    With one process it exports the global registry. With several, where
    ``PROMETHEUS_MULTIPROC_DIR`` is set, it makes a new registry for each scrape and adds a
    `MultiProcessCollector` by the name that is replaced here; there is no other place at which a
    collector could join.
    """
    prometheus_client.REGISTRY.register(collector)

    class Multiprocess:
        @staticmethod
        def MultiProcessCollector(registry: CollectorRegistry) -> None:  # noqa: N802
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            registry.register(collector)

    exports.multiprocess = Multiprocess
