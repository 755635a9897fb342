"""Limits as gauges: a bar of what is left, in colours that warn, and when it is whole again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keystead.cli.charts import Glyphs, bar
from keystead.cli.limits.notation import rule
from keystead.cli.tables import Cell, Column, Table, cell, joined
from keystead.cli.text import span
from keystead.cli.usage.rendering import counted, duration_us, glyphs, number, right, room_beside, written

_BAR_COLUMNS_MIN = 8
_BAR_COLUMNS_MAX = 32
_NAME_COLUMNS_MAX = 20
_UNKNOWN = "not known"
_WARNING_SHARE = 0.5
_ALARM_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Gauge:
    """One limit and where it stands: ``state`` is the contract's ``LimitState``, None when that is not known."""

    name: str
    state: Mapping[str, Any] | None
    rule: str
    source: str = ""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Gauge:
        """Read the contract's ``LimitGauge``."""
        limit = told.get("limit", {})
        return cls(limit.get("name", ""), told.get("state"), rule(limit), str(told.get("source", "")).lower())


def gauge_table(gauges: Sequence[Gauge], *, binding: str = "") -> Table:
    """Make a table of gauges; the bars take what room there is. ``binding`` is the limit that decides."""
    left = right([_left(gauge.state) for gauge in gauges])
    resets = [cell(_reset(gauge.state)) for gauge in gauges]
    sources = [cell(gauge.source, "dim") for gauge in gauges]
    texts: list[tuple[str, Sequence[Cell]]] = [("LEFT", left), ("WHOLE IN", resets), ("FROM", sources)]
    if not any(gauge.source for gauge in gauges):
        texts.pop()
    names = [cell(written(gauge.name), "bold" if gauge.name == binding else "") for gauge in gauges]
    rules = [cell(gauge.rule, "cyan") for gauge in gauges]
    room = room_beside(("LIMIT", names), *texts, ("RULE", rules), name_columns_max=_NAME_COLUMNS_MAX)
    columns = min(_BAR_COLUMNS_MAX, max(_BAR_COLUMNS_MIN, room))
    bars = [gauge_bar(gauge.state, columns=columns, glyphs=glyphs()) for gauge in gauges]
    heads = [Column(heading, whole=True) for heading, _ in texts]
    return Table(
        (Column("LIMIT", columns_max=_NAME_COLUMNS_MAX), Column("", whole=True), *heads, Column("RULE")),
        list(zip(names, bars, *(cells for _, cells in texts), rules, strict=True)),
    )


def gauge_bar(state: Mapping[str, Any] | None, *, columns: int, glyphs: Glyphs) -> Cell:
    """Draw what is left in ``columns``: green, yellow below a half, red below a fifth; the rest stands in dots."""
    if state is None:
        return cell(glyphs.empty * columns, "dim")
    whole = number(state.get("limit"))
    left = min(number(state.get("remaining")), whole)
    drawn = bar(left, whole, columns=columns, glyphs=glyphs)
    share = left / whole if whole else 0.0
    style = "red" if share < _ALARM_SHARE else "yellow" if share < _WARNING_SHARE else "green"
    return joined([cell(drawn, style), cell(glyphs.empty * (columns - len(drawn)), style if not left else "dim")], "")


def _left(state: Mapping[str, Any] | None) -> str:
    if state is None:
        return _UNKNOWN
    return f"{counted(state.get('remaining'))} of {counted(state.get('limit'))}"


def _reset(state: Mapping[str, Any] | None) -> str:
    reset_us = duration_us((state or {}).get("resetAfter"))
    if not reset_us:
        return ""
    return span(reset_us // 1_000, parts=2) if reset_us >= 1_000_000 else "1 s"
