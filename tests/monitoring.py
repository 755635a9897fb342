"""What `deploy/` gives to Prometheus and Grafana, read the way these read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "keystead.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yml"

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"\b[a-z_][a-z0-9_:]*\b(?!\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


class Query(NamedTuple):
    """One expression, and where it stands."""

    place: str
    expression: str


def dashboard() -> dict[str, Any]:
    """Read the dashboard."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return read


def panel_queries() -> Iterator[Query]:
    """Yield what the panels of the dashboard ask."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{panel['title']}: {target['legendFormat']}", target["expr"])


def alert_queries() -> Iterator[Query]:
    """Yield what the alerts ask; each expression stands on the line after its alert's name."""
    text = ALERTS.read_text(encoding="utf-8")
    for name, expression in re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text):
        yield Query(name, expression)


def names_in(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression reads."""
    bare = _RANGE.sub("", _LABELS.sub("", _STRING.sub("", expression)))
    return set(_NAME.findall(bare)) - _WORDS


def as_grafana_sends(expression: str, *, range_s: int) -> str:
    """Fill in what Grafana fills in: all jobs, all instances, and the range that suits the scrapes."""
    return expression.replace("$__rate_interval", f"{range_s}s").replace("$job", ".*").replace("$instance", ".*")
