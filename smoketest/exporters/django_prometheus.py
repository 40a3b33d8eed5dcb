"""Exporter for sites that use django-prometheus: adds the metrics to its page.

https://github.com/django-commons/django-prometheus
"""

from __future__ import annotations

import prometheus_client
from django_prometheus import exports
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.registry import Collector


def install(collector: Collector) -> None:
    """Register the collector with django-prometheus, in both of its modes.

    With one process, django-prometheus exports the global registry. If
    ``PROMETHEUS_MULTIPROC_DIR`` is set, it creates a registry for each scrape and calls
    ``multiprocess.MultiProcessCollector``. It has no hook for other collectors, so that name is
    replaced.
    """
    prometheus_client.REGISTRY.register(collector)

    class Multiprocess:
        @staticmethod
        def MultiProcessCollector(registry: CollectorRegistry) -> None:  # noqa: N802
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            registry.register(collector)

    exports.multiprocess = Multiprocess
