"""Write the series of an exposition to PROMETHEUS_MULTIPROC_DIR, as one of several processes.

``python -m scrape_site.fill EXPOSITION`` reads a file in the OpenMetrics format.
"""

import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

registry = CollectorRegistry()
for family in text_string_to_metric_families(Path(sys.argv[1]).read_text()):
    if not family.samples:
        continue
    labels = list(family.samples[0].labels)
    if family.type == "counter":
        counter = Counter(family.name, family.documentation, labels, registry=registry)
        for sample in family.samples:
            (counter.labels(**sample.labels) if labels else counter).inc(sample.value)
    else:
        # The only mode that exports one series for all processes and does not sum.
        gauge = Gauge(
            family.name,
            family.documentation,
            labels,
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        for sample in family.samples:
            (gauge.labels(**sample.labels) if labels else gauge).set(sample.value)
