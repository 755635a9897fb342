"""Plain numbers become what Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keystead.adapters.prometheus.collector import Exposition, Metric, MetricsCollector
from keystead.kernel.measures import Histogram

Numbers = dict[str, float]


async def lines_of(*metrics: Metric[Numbers], source: Numbers) -> dict[str, float]:
    """Write metrics and read them back; what Python says of itself is left out."""
    body, _ = await Exposition(MetricsCollector(metrics, source)).render("")
    read = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if not sample.name.startswith(("process_", "python_")):
                read[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
    return read


async def test_numbers_are_read_when_they_are_asked_for() -> None:
    """A scrape tells what is true then, and nothing has to be told beforehand."""
    source = {"n": 1.0}
    metric: Metric[Numbers] = Metric("n_total", "counter", "N.", lambda it: it["n"])
    assert await lines_of(metric, source=source) == {"n_total[]": 1.0}
    source["n"] = 2.0
    assert await lines_of(metric, source=source) == {"n_total[]": 2.0}


async def test_labels_stand_in_their_order() -> None:
    """A value gets the labels that it was told under, one or several."""
    one: Metric[Numbers] = Metric("a", "gauge", "A.", lambda _: {"x": 1.0}, ("k",))
    two: Metric[Numbers] = Metric("b", "gauge", "B.", lambda _: {("x", "y"): 2.0}, ("k", "l"))
    assert await lines_of(one, two, source={}) == {"a[('k', 'x')]": 1.0, "b[('k', 'x'), ('l', 'y')]": 2.0}


async def test_buckets_add_up() -> None:
    """A bucket holds what is in the smaller ones too, bounds are seconds, and the last holds everything."""
    histogram = Histogram((1_000_000, 1_000_000_000))
    for duration_ns in (500_000, 2_000_000, 3_000_000_000):
        histogram.observe(duration_ns)
    metric: Metric[Numbers] = Metric("h_seconds", "histogram", "H.", lambda _: histogram)
    assert await lines_of(metric, source={}) == {
        "h_seconds_bucket[('le', '0.001')]": 1.0,
        "h_seconds_bucket[('le', '1.0')]": 2.0,
        "h_seconds_bucket[('le', '+Inf')]": 3.0,
        "h_seconds_count[]": 3.0,
        "h_seconds_sum[]": pytest.approx(3.0025),
    }


async def test_what_is_not_there_is_left_out() -> None:
    """A part that a server does not run has no number, rather than a wrong one."""
    metric: Metric[Numbers] = Metric("n", "gauge", "N.", lambda _: None)
    assert await lines_of(metric, source={}) == {}


@pytest.mark.parametrize("kind", ("gauge", "histogram"))
async def test_a_row_that_reads_the_wrong_kind_is_a_fault(kind: str) -> None:
    """A mistake in the table is seen by the first scrape."""
    reading = Histogram((1,)) if kind == "gauge" else 1.0
    metric: Metric[Numbers] = Metric("n", kind, "N.", lambda _: reading)  # type: ignore[arg-type]  # one of the two
    with pytest.raises(TypeError):
        await lines_of(metric, source={})
