"""Numbers as pictures made of characters: bars, sparklines and a chart with axes.

Every picture is a text of at most so many columns, made of numbers alone, and every number is in it: what does not fit
is summed with its neighbours, never left out. A terminal that cannot show blocks gets the same pictures in ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

COLUMN_WIDTH_MAX = 6
_GAP_FROM_WIDTH = 3
_THOUSAND = 1_000
_GUTTER_MAX = 4


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What pictures are drawn with.

    ``upward`` and ``rightward`` go from a little to a whole character; ``spark`` begins with nothing.
    """

    upward: str
    rightward: str
    spark: str
    wall: str
    tick: str
    corner: str
    floor: str
    mark: str
    empty: str


BLOCKS = Glyphs("▁▂▃▄▅▆▇█", "▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█", "│", "┤", "└", "─", "┬", "·")
ASCII = Glyphs(":#", "#", "_.:-=+*#", "|", "+", "+", "-", "+", ".")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Choose what can be written in ``encoding``."""
    drawn = "".join(getattr(BLOCKS, item.name) for item in fields(BLOCKS))
    try:
        drawn.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS


def merged(values: Sequence[int], size: int) -> list[int]:
    """Sum each ``size`` neighbours, at least 1; the last may have fewer."""
    return [sum(values[start : start + size]) for start in range(0, len(values), size)]


def size_to_fit(count: int, columns: int, sizes: Sequence[int] = ()) -> int:
    """Return how many neighbours to sum so that ``count`` values take at most ``columns``: one of ``sizes`` if any."""
    needed = max(1, -(-count // max(1, columns)))
    return next((size for size in sorted(sizes) if size >= needed), needed)


def sparkline(values: Sequence[int], *, columns: int, glyphs: Glyphs = BLOCKS) -> str:
    """Draw ``values`` as one character each; nothing looks like nothing, and a little does not."""
    shown = merged(values, size_to_fit(len(values), columns))
    peak = max(shown, default=0)
    return "".join(glyphs.spark[_level(value, peak, len(glyphs.spark) - 1)] for value in shown)


def bar(value: int, peak: int, *, columns: int, glyphs: Glyphs = BLOCKS) -> str:
    """Draw ``value`` as a bar that takes all ``columns`` when it is ``peak``."""
    steps = len(glyphs.rightward)
    whole, part = divmod(_level(value, peak, columns * steps), steps)
    return glyphs.rightward[-1] * whole + (glyphs.rightward[part - 1] if part else "")


def compact(number: int) -> str:
    """Write a number in at most five characters, rounded down: ``950``, ``1.2k``, ``12k``, ``3M``."""
    scale, unit = 1, ""
    for next_unit in ("k", "M", "G", "T", "P", "E"):
        if number < scale * _THOUSAND:
            break
        scale, unit = scale * _THOUSAND, next_unit
    whole, tenths = number // scale, number * 10 // scale % 10
    return f"{whole}.{tenths}{unit}" if unit and tenths and whole < 10 else f"{whole}{unit}"


def round_ceiling(peak: int) -> int:
    """Return the least of 1, 2, 3, 4, 5, 6 and 8 times a power of ten that is not below ``peak``, and at least 1."""
    power = 1
    while power * 10 < peak:
        power *= 10
    return next(factor * power for factor in (1, 2, 3, 4, 5, 6, 8, 10) if factor * power >= peak)


def chart_columns(columns: int, ceiling: int) -> int:
    """Return how many columns of ``columns`` a chart has left for its bars, whose axis ends at ``ceiling`` or below.

    A lower one may have longer names: ``2.5M`` stands in the middle of ``5M``, and ``3M`` in that of ``6M``.
    """
    return max(1, columns - max(_gutter(ceiling), _GUTTER_MAX if ceiling >= _THOUSAND else 0) - 2)


def column_chart(
    values: Sequence[int], labels: Sequence[tuple[int, str]], *, columns: int, rows: int, glyphs: Glyphs = BLOCKS
) -> Iterator[tuple[str, str]]:
    """Yield lines of a chart, each as axis and bars: ``rows`` of bars, the floor, and the ``labels`` under it.

    A label is the index of its value and a text. There must be at most ``chart_columns`` values.
    """
    ceiling = round_ceiling(max(values, default=0))
    gutter = _gutter(ceiling)
    width = max(1, min(COLUMN_WIDTH_MAX, chart_columns(columns, ceiling) // max(1, len(values))))
    drawn = width - 1 if width >= _GAP_FROM_WIDTH else width
    steps = len(glyphs.upward)
    levels = [_level(value, ceiling, rows * steps) for value in values]
    for row in range(rows, 0, -1):
        named = _tick(row, rows, ceiling)
        axis = f"{named:>{gutter}} {glyphs.tick if named else glyphs.wall}"
        below = (row - 1) * steps
        cells = (_slice(min(level - below, steps), glyphs) * drawn for level in levels)
        yield axis, "".join(f"{cell:<{width}}" for cell in cells).rstrip()
    placed = list(_placed(labels, width=width, columns=max(1, width * len(values))))
    floor = [glyphs.floor] * (width * len(values))
    for start, _ in placed:
        floor[start] = glyphs.mark
    yield f"{0:>{gutter}} {glyphs.corner}" + "".join(floor), ""
    line = ""
    for start, text in placed:
        line = f"{line:<{start}}{text}"
    yield " " * (gutter + 2) + line, ""


def _placed(labels: Sequence[tuple[int, str]], *, width: int, columns: int) -> Iterator[tuple[int, str]]:
    """Yield the labels that have room, each with its column, two columns apart at least."""
    free_from = 0
    for index, text in labels:
        start = index * width
        if start >= free_from and (start + len(text) <= columns or not free_from):
            yield start, text
            free_from = start + len(text) + 2


def _level(value: int, peak: int, steps: int) -> int:
    """Say how many of ``steps`` a value reaches: all at ``peak``, and at least one when it is not zero."""
    if value <= 0 or peak <= 0:
        return 0
    return min(steps, max(1, (value * steps * 2 + peak) // (peak * 2)))


def _slice(level: int, glyphs: Glyphs) -> str:
    return glyphs.upward[level - 1] if level > 0 else " "


def _gutter(ceiling: int) -> int:
    return max(len(compact(ceiling)), len(compact(ceiling // 2)))


def _tick(row: int, rows: int, ceiling: int) -> str:
    """Name the top, and the middle when it is a whole number; a name stands at the upper edge of its row."""
    if row == rows:
        return compact(ceiling)
    return compact(ceiling // 2) if row * 2 == rows and ceiling % 2 == 0 else ""
