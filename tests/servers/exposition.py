"""Parsed samples of a text exposition."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


class Exposition:
    """Samples of a scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = (sample.name, frozenset(sample.labels.items()))
                assert series not in self.samples, f"duplicate series {series}"
                self.samples[series] = sample.value

    def matching(self, name: str, **labels: str) -> dict[Series, float]:
        """Return the samples of a metric that have at least these labels."""
        wanted = set(labels.items())
        return {
            series: value
            for series, value in self.samples.items()
            if series[0] == name and wanted <= series[1]
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the only series of a metric that has these labels."""
        found = self.matching(name, **labels)
        assert len(found) == 1, f"{len(found)} series match {name}{labels}\n{self.text}"
        return next(iter(found.values()))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the matching values, summed by a label."""
        values: dict[str, float] = {}
        for (_, series_labels), value in self.matching(name, **labels).items():
            key = dict(series_labels)[label]
            values[key] = values.get(key, 0) + value
        return values

    def totals(self) -> Mapping[Series, float]:
        """Return all counters."""
        return {
            series: value for series, value in self.samples.items() if series[0].endswith("_total")
        }
