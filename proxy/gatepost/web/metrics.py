"""``/metrics``: what the workers have counted, in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepost.metrics import METRICS, SECONDS, Board, Key, Metric, Samples

__all__ = ["routes"]

_PREFIX = "gatepost_"
_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Totals(Collector):
    """One look at the board."""

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
        """Each with all that are below it."""
        buckets: list[tuple[str, float]] = []
        total = 0.0
        for bound in (*map(str, SECONDS), "+Inf"):
            total += self._samples.get((metric.name, bound), 0)
            buckets.append((bound, total))
        return buckets


async def _metrics(request: Request) -> Response:
    board: Board | None = request.app.state.board
    if board is None:
        raise HTTPException(404)
    registry = CollectorRegistry()
    registry.register(_Totals(board.totals()))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


routes = [Route("/metrics", _metrics)]
