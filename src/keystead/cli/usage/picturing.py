"""Series as pictures: one chart over everything, or one sparkline for each group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from keystead.cli.charts import (
    COLUMN_WIDTH_MAX,
    chart_columns,
    column_chart,
    merged,
    round_ceiling,
    size_to_fit,
    sparkline,
)
from keystead.cli.output import show
from keystead.cli.tables import Cell, Column, Table, cell, joined
from keystead.cli.text import moment_ms
from keystead.cli.usage.rendering import (
    counted,
    glyphs,
    moment,
    number,
    percent,
    picture_columns,
    right,
    room_beside,
    written,
)
from keystead.cli.usage.timeline import SIZES, Timeline

CHART_ROWS = 8
GROUPS_MAX = 20
_SPARK_COLUMNS_MIN = 12
_SPARK_COLUMNS_MAX = 60
_NAME_COLUMNS_MAX = 34

Points = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: over which intervals, how wide they are, by what, after which filters, in whose time."""

    timeline: Timeline
    interval: str
    dimension: str
    said: str
    zone_name: str


def print_picture(picture: Picture, series: Mapping[str, Points]) -> None:
    """Draw ``series``, which have a name each when there is a dimension."""
    if picture.dimension:
        _print_groups(picture, series)
    else:
        _print_chart(picture, next(iter(series.values()), ()))


def _print_chart(picture: Picture, points: Points) -> None:
    values = picture.timeline.spread(_amounts(points))
    if not any(values):
        show(_heading(picture))
        click.echo("No calls match.", err=True)
        return
    columns = picture_columns()
    size = size_to_fit(len(values), chart_columns(columns, round_ceiling(sum(values))), SIZES[picture.interval])
    shown = merged(values, size)
    room = chart_columns(columns, round_ceiling(max(shown)))
    width = max(1, min(COLUMN_WIDTH_MAX, room // len(shown)))
    labels = picture.timeline.labels(size, columns=width * len(shown), width=width)
    lines = [
        joined([cell(axis, "dim"), cell(bars, "cyan")], "")
        for axis, bars in column_chart(shown, labels, columns=columns, rows=CHART_ROWS, glyphs=glyphs())
    ]
    show(_heading(picture), cell(""), *lines, cell(""), *_sums(picture, values, points), _scale(picture, size))


def _print_groups(picture: Picture, series: Mapping[str, Points]) -> None:
    spread = {name: picture.timeline.spread(_amounts(points)) for name, points in series.items()}
    ranked = sorted(spread.items(), key=lambda group: (-sum(group[1]), group[0]))
    total = sum(map(sum, spread.values()))
    if not ranked:
        show(_heading(picture))
        click.echo("No calls match.", err=True)
        return
    shown = ranked[:GROUPS_MAX]
    rest = [values for _, values in ranked[GROUPS_MAX:]]
    if rest:
        shown.append((f"({len(rest):,} more)", [sum(column) for column in zip(*rest, strict=True)]))
    names = [cell(name) for name, _ in shown]
    found = [
        (picture.dimension, names),
        ("CALLS", right([counted(sum(values)) for _, values in shown])),
        ("SHARE", right([percent(sum(values), total) for _, values in shown])),
        (f"PEAK/{picture.interval}", right([counted(max(values)) for _, values in shown])),
    ]
    if picture.dimension == "TAG":  # a call with several is in several groups, and shares would add up to too much
        del found[2]
    room = room_beside(*found, name_columns_max=_NAME_COLUMNS_MAX)
    columns = min(_SPARK_COLUMNS_MAX, max(_SPARK_COLUMNS_MIN, room))
    size = size_to_fit(len(picture.timeline.begins_ms), columns, SIZES[picture.interval])
    drawn = [cell(sparkline(merged(values, size), columns=columns, glyphs=glyphs()), "cyan") for _, values in shown]
    heads = [Column(heading, whole=True) for heading, _ in found[1:]]
    made = Table(
        (Column(picture.dimension, columns_max=_NAME_COLUMNS_MAX), *heads, Column("OVER TIME", whole=True)),
        list(zip(*(cells for _, cells in found), drawn, strict=True)),
    )
    show(_heading(picture), cell(""), made, cell(""), _scale(picture, size))


def _amounts(points: Points) -> Iterable[tuple[int, int]]:
    return ((moment_ms(point["beginsAt"]), number(point.get("calls"))) for point in points)


def _heading(picture: Picture) -> Cell:
    begins_ms = picture.timeline.begins_ms
    by = f" by {picture.dimension.lower()}" if picture.dimension else ""
    said = f" ({written(picture.said)})" if picture.said else ""
    zone = picture.timeline.zone
    return joined(
        [
            cell(f"Calls{by}{said}", "bold"),
            cell(f"since {moment(begins_ms[0], zone)} {picture.zone_name}, in {picture.interval.lower()}s", "dim"),
        ],
        "  ",
    )


def _sums(picture: Picture, values: Sequence[int], points: Points) -> list[Cell]:
    peak = max(values)
    outcomes = sum(number(point.get("outcomes")) for point in points)
    errors = sum(number(point.get("errors")) for point in points)
    cost = sum(number(point.get("cost")) for point in points)
    reported = f", {percent(errors, outcomes)} errors of {counted(outcomes)} reported" if outcomes else ""
    when = moment(picture.timeline.begins_ms[values.index(peak)], picture.timeline.zone)
    return [
        cell(f"{counted(sum(values))} calls, cost {counted(cost)}{reported}"),
        cell(f"Peak {counted(peak)} in the {picture.interval.lower()} of {when}"),
    ]


def _scale(picture: Picture, size: int) -> Cell:
    """Say how much time one column holds, in the largest unit that is whole."""
    unit, count = picture.interval.lower(), size
    for larger, smaller, factor in (("hour", "minute", 60), ("day", "hour", 24), ("week", "day", 7)):
        if unit == smaller and count % factor == 0:
            unit, count = larger, count // factor
    return cell(f"One column is {count} {unit}{'' if count == 1 else 's'}.", "dim")
