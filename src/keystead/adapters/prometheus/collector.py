"""Reads what the parts of a process count of themselves, when Prometheus asks and not before.

A metric is one row of a table: its name, its help, and how it is read. What is read are plain numbers, which their
owners add to without knowing of any metric; so a verification pays for one addition and a scrape for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from keystead.kernel.measures import NS_PER_SECOND, Histogram

Source = TypeVar("Source")
Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram
Reading = Value | Mapping[Any, float] | Mapping[Any, Histogram] | None
"""What a metric is now; None when there is nothing to tell.

One with labels is told by their values: a tuple in the order of the labels, or the value alone when there is one label.
"""


@dataclass(frozen=True, slots=True)
class Metric(Generic[Source]):
    """One metric. ``name`` ends in its unit, a counter's in ``_total``; ``help`` is a sentence.

    The values of ``labels`` must be few and known beforehand: never an id, an address or anything that a caller wrote.
    """

    name: str
    kind: Kind
    help: str
    read: Callable[[Source], Reading]
    labels: tuple[str, ...] = ()


class MetricsCollector(Collector, Generic[Source]):
    """The metrics of a table, read from one source."""

    def __init__(self, metrics: Sequence[Metric[Source]], source: Source) -> None:
        """Read ``metrics`` from ``source`` at each scrape."""
        self._metrics = metrics
        self._source = source

    def collect(self) -> Iterable[Family]:
        """Read everything; what has nothing to tell is left out."""
        for metric in self._metrics:
            reading = metric.read(self._source)
            if reading is not None:
                yield _family(metric, reading)


class Exposition:
    """Everything that Prometheus is told of a process: a table's metrics, and what Python knows of itself."""

    def __init__(self, collector: Collector) -> None:
        """Tell what ``collector`` reads."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Write the metrics as ``accept`` asks; return the bytes and their content type.

        They are read on the loop, where nothing changes meanwhile, and written beside it: that takes longer.
        """
        encode, content_type = choose_encoder(accept)
        families = _Read(list(self._registry.collect()))
        return await asyncio.to_thread(encode, families), content_type


class _Read(Collector):
    """What was read already."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _family(metric: Metric[Source], reading: Value | Mapping[Any, float] | Mapping[Any, Histogram]) -> Family:
    by_labels: Mapping[Any, Value] = reading if isinstance(reading, Mapping) else {(): reading}
    if metric.kind == "histogram":
        return _histograms(metric, by_labels)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in by_labels.items():
        if isinstance(value, Histogram):
            raise TypeError(f"{metric.name} is no histogram")
        family.add_metric(_values(labels), value)
    return family


def _histograms(metric: Metric[Source], by_labels: Mapping[Any, Value]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in by_labels.items():
        if not isinstance(value, Histogram):
            raise TypeError(f"{metric.name} is a histogram")
        family.add_metric(_values(labels), _buckets(value), value.sum_ns / NS_PER_SECOND)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Add the counts up: a bucket of Prometheus holds what is in the smaller ones as well."""
    bounds = [*(str(bound / NS_PER_SECOND) for bound in histogram.bounds_ns), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def _values(labels: str | tuple[str, ...]) -> tuple[str, ...]:
    return (labels,) if isinstance(labels, str) else labels
