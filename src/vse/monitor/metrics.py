"""Figures of this process and its site, in the text form that Prometheus reads.

A room makes the counters it needs with `Metrics.counter`, or adds a source: a function that returns
`Family` values when somebody looks, e.g. from rows that all processes of the site write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """A value and those of the labels of its family."""

    labels: Sequence[str]
    value: float


class Family(NamedTuple):
    """One metric: ``name`` with its unit (``vse_upstream_waited_seconds``), without ``_total``."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: Sequence[str]
    samples: Sequence[Sample]


Source = Callable[[], Iterable[Family]]


class Metrics:
    """What one process tells. Safe to share between threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return a new counter; its ``labels(...).inc()`` counts. Raises `ValueError` for a used name."""
        return Counter(name, text, labels, registry=self._registry)

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Histogram:
        """Return a new histogram; ``labels(...).observe(value)`` counts. Raises `ValueError` likewise."""
        return Histogram(name, text, labels, registry=self._registry, buckets=bounds)

    def add(self, source: Source) -> None:
        """Ask ``source`` whenever the figures are looked at."""
        self._registry.register(_Looked(source))

    def text(self) -> bytes:
        """Return all figures, as `MEDIA_TYPE` says."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Tell them to whoever asks at ``http://HOST:PORT/metrics``, from a thread; return how to end that.

        Raises `OSError` where nothing can listen there.
        """
        server, thread = start_http_server(port, host, registry=self._registry)

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return end


class _Looked(Collector):
    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> list[Metric]:
        return []  # so that nobody is asked before somebody looks

    def collect(self) -> Iterator[Metric]:
        for family in self._source():
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for sample in family.samples:
                metric.add_metric([*sample.labels], sample.value)
            yield metric
