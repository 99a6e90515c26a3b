"""The workers' counters in the text format of Prometheus; imported for the first scrape."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gatepost.metrics import METRICS, SECONDS, Key, Metric, Samples

__all__ = ["MEDIA_TYPE", "exposition"]

MEDIA_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "gatepost_"
_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Totals(Collector):
    """A snapshot of the counters."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[_Family]:
        for metric in METRICS:
            yield self._family(metric)

    def _family(self, metric: Metric) -> _Family:
        name = _PREFIX + metric.name
        if metric.kind == "histogram":
            return HistogramMetricFamily(
                name,
                metric.meaning,
                buckets=self._buckets(metric),
                sum_value=self._samples.get((metric.name, "sum"), 0.0),
            )
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = make(name, metric.meaning, labels=metric.labels)
        samples: dict[Key, float] = {} if metric.labels else {(metric.name,): 0.0}
        samples.update((key, value) for key, value in self._samples.items() if key[0] == metric.name)
        for key, value in samples.items():
            family.add_metric(key[1:], value)
        return family

    def _buckets(self, metric: Metric) -> list[tuple[str, float]]:
        """Cumulative counts of the buckets."""
        buckets: list[tuple[str, float]] = []
        total = 0.0
        for bound in (*map(str, SECONDS), "+Inf"):
            total += self._samples.get((metric.name, bound), 0)
            buckets.append((bound, total))
        return buckets


def exposition(samples: Samples) -> bytes:
    """The samples as a scrape expects them."""
    registry = CollectorRegistry()
    registry.register(_Totals(samples))
    return generate_latest(registry)
