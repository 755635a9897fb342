"""The dashboard and the alerts of `deploy/` speak of metrics that exist, and the metrics keep their own rules."""

from __future__ import annotations

import re

from keystead.bootstrap.metrics import METRICS
from tests import monitoring
from tools import docs_metrics

COUNTED = ("_journals", "_workspaces")
UNITS = ("_seconds", "_bytes", "_total", "_info", "_calls", "_secrets", "_events", "_prefixes", "_seq", *COUNTED)
COUNTS = ("_running", "_open", "_sending", *COUNTED, "_counters", "_connected", "_letters")
BESIDE = {
    "up",  # Prometheus's own
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
}
ONLY_FOR_ALERTS = {"keystead_lease_bound_seconds", "keystead_loop_interval_seconds"}
BOUNDED_LABELS = {
    "code",
    "direction",
    "ending",
    "kind",
    "lane",
    "loop",
    "method",
    "policy",
    "reader",
    "reason",
    "result",
    "version",
    "way",
}


def exposed() -> set[str]:
    """Return every name that can be asked for."""
    plain = {metric.name for metric in METRICS if metric.kind != "histogram"}
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    return plain | BESIDE | {name + part for name in histograms for part in ("_bucket", "_sum", "_count")}


def test_names_are_taken_out_of_expressions() -> None:
    """A metric is found wherever it stands, and no function, label or text is taken for one."""
    expression = (
        'sum by (le, code) (rate(a_total{code=~"b_total|x"}[5m])) / on (code) (c > 0) and histogram_quantile(0.9, d)'
    )
    assert monitoring.names_in(expression) == {"a_total", "c", "d"}


def test_every_panel_asks_for_metrics_that_exist() -> None:
    """No panel of the dashboard stays empty because a metric was renamed."""
    queries = list(monitoring.panel_queries())
    assert len(queries) > 40
    assert {query.place: monitoring.names_in(query.expression) - exposed() for query in queries} == {
        query.place: set() for query in queries
    }


def test_every_alert_asks_for_metrics_that_exist() -> None:
    """No alert stays silent because a metric was renamed."""
    queries = list(monitoring.alert_queries())
    assert len(queries) == monitoring.ALERTS.read_text(encoding="utf-8").count("- alert:")
    assert [query for query in queries if not monitoring.names_in(query.expression)] == []
    assert [query for query in queries if monitoring.names_in(query.expression) - exposed()] == []


def test_every_metric_is_on_the_dashboard() -> None:
    """What is counted can be seen."""
    asked = {name for query in monitoring.panel_queries() for name in monitoring.names_in(query.expression)}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert {metric.name for metric in METRICS} - shown == ONLY_FOR_ALERTS


def test_metrics_have_a_unit_a_sentence_and_bounded_labels() -> None:
    """Whoever sees a metric knows its unit and meaning, and none can grow without bound or name a tenant (P1, P8)."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("keystead_")
        assert metric.name.endswith((*UNITS, *COUNTS)), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name
        assert set(metric.labels) <= BOUNDED_LABELS


def test_every_metric_is_in_the_reference() -> None:
    """An operator finds what each number means."""
    page = docs_metrics.page()
    assert [metric.name for metric in METRICS if f"| `{metric.name}` |" not in page] == []
