"""Pictures hold every number, and never more columns than there are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keystead.cli.charts import (
    ASCII,
    BLOCKS,
    Glyphs,
    bar,
    chart_columns,
    column_chart,
    compact,
    glyphs_for,
    merged,
    round_ceiling,
    size_to_fit,
    sparkline,
)

COUNTS = st.integers(0, 2**64 - 1)
SERIES = st.lists(COUNTS, max_size=200)
GLYPHS = st.sampled_from((BLOCKS, ASCII))


def rows_of(values: Sequence[int], *, columns: int = 40, rows: int = 4, glyphs: Glyphs = BLOCKS) -> list[str]:
    """Draw a chart without labels; each line as it is shown."""
    return [axis + bars for axis, bars in column_chart(values, (), columns=columns, rows=rows, glyphs=glyphs)]


@given(SERIES, st.integers(1, 300), st.lists(st.integers(1, 50), max_size=4))
def test_merging_loses_no_call(values: list[int], columns: int, sizes: list[int]) -> None:
    """What does not fit is summed with its neighbours: as many columns as there are at most, and the same sum."""
    shown = merged(values, size_to_fit(len(values), columns, sizes))
    assert len(shown) <= columns
    assert sum(shown) == sum(values)


@given(SERIES, st.integers(1, 300), GLYPHS)
def test_a_sparkline_fits_and_hides_nothing(values: list[int], columns: int, glyphs: Glyphs) -> None:
    """It takes its columns at most, and a column looks empty exactly when nothing was there."""
    shown = merged(values, size_to_fit(len(values), columns))
    drawn = sparkline(values, columns=columns, glyphs=glyphs)
    assert len(drawn) == len(shown) <= columns
    assert [sign == glyphs.spark[0] for sign in drawn] == [value == 0 for value in shown]
    assert not any(shown) or drawn[shown.index(max(shown))] == glyphs.spark[-1]


@given(COUNTS, COUNTS, st.integers(1, 100), GLYPHS)
def test_a_bar_never_exceeds_its_columns(value: int, more: int, columns: int, glyphs: Glyphs) -> None:
    """The longest takes all columns, none takes more, and what is not nothing is seen."""
    peak = value + more
    drawn = bar(value, peak, columns=columns, glyphs=glyphs)
    assert len(drawn) <= columns
    assert bool(drawn) == (value > 0)
    assert bar(peak, peak, columns=columns, glyphs=glyphs) == (glyphs.rightward[-1] * columns if peak else "")


@given(COUNTS, COUNTS, st.integers(1, 100))
def test_a_longer_bar_is_never_less(first: int, second: int, columns: int) -> None:
    """Bars are in the order of their numbers."""
    least, most = sorted((first, second))
    lengths = [_eighths(bar(value, most, columns=columns)) for value in (least, most)]
    assert lengths == sorted(lengths)


def _eighths(drawn: str) -> int:
    return sum(BLOCKS.rightward.index(sign) + 1 for sign in drawn)


@given(SERIES, st.integers(12, 200), st.integers(1, 12), GLYPHS)
@example([0, 0, 0, 0, 0, 1, 5_000_000], 12, 1, BLOCKS)
def test_a_chart_fits_into_its_columns(values: list[int], columns: int, rows: int, glyphs: Glyphs) -> None:
    """No line of a chart is wider than the screen, whatever the numbers; there are as many lines as were asked for."""
    shown = merged(values, size_to_fit(len(values), chart_columns(columns, round_ceiling(sum(values)))))
    labels = [(index, "00:00") for index in range(len(shown))]
    lines = list(column_chart(shown, labels, columns=columns, rows=rows, glyphs=glyphs))
    assert len(lines) == rows + 2
    assert all(len(axis) + len(bars) <= columns for axis, bars in lines)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=20), st.integers(1, 12))
def test_heights_are_in_proportion(values: list[int], rows: int) -> None:
    """Each column is as high as its number against the top of the axis, to half an eighth of a row."""
    top = round_ceiling(max(values))
    columns = len(values) + 100 - chart_columns(100, top)  # one for each number
    lines = list(column_chart(values, (), columns=columns, rows=rows))[:rows]
    for index, value in enumerate(values):
        height = sum(_height(bars[index : index + 1]) for _, bars in lines)
        exact = value / top * rows * len(BLOCKS.upward)
        assert height == (0 if value == 0 else pytest.approx(max(1, exact), abs=0.5))


def _height(sign: str) -> int:
    return BLOCKS.upward.index(sign) + 1 if sign.strip() else 0


@given(COUNTS)
def test_the_top_of_the_axis_is_round_and_near(peak: int) -> None:
    """No number stands above the axis, and no axis is more than twice as high as it has to be."""
    top = round_ceiling(peak)
    assert max(1, peak) <= top <= max(1, 2 * peak)
    assert str(top).rstrip("0") in {"1", "2", "3", "4", "5", "6", "8"}


@given(st.integers(0, 2**64 - 1))
def test_a_short_number_is_short(number: int) -> None:
    """A number on an axis takes five characters at most, and the larger one never looks smaller than a tenth off."""
    written = compact(number)
    assert len(written) <= 5
    units = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
    value = float(written.rstrip("kMGTPE")) * units.get(written[-1], 1)
    assert number * 0.9 <= value * 1.001
    assert value <= number * 1.001


def test_a_chart_looks_like_one() -> None:
    """Axis, top, middle and floor, times under the columns that they name."""
    lines = list(column_chart([0, 5, 10, 2], [(0, "10:00"), (1, "11:00"), (2, "12:00")], columns=24, rows=4))
    assert [axis + bars for axis, bars in lines] == [
        "10 ┤          ████",
        "   │          ████",
        " 5 ┤     ████ ████",
        "   │     ████ ████ ▆▆▆▆",
        " 0 └┬─────────┬─────────",
        "    10:00     12:00",
    ]


def test_ascii_draws_the_same() -> None:
    """A terminal without blocks gets the same chart, in characters that every encoding has."""
    assert rows_of([0, 5, 10, 2], columns=24, glyphs=ASCII) == [
        "10 +          ####",
        "   |          ####",
        " 5 +     #### ####",
        "   |     #### #### ####",
        " 0 +--------------------",
        "    ",
    ]
    assert sparkline([0, 1, 9], columns=9, glyphs=ASCII) == "_.#"
    assert bar(1, 2, columns=9, glyphs=ASCII) == "#####"


def test_nothing_is_drawn_as_nothing() -> None:
    """A time without calls has a chart with an empty floor, not none."""
    assert rows_of([0, 0], rows=2, columns=12) == ["1 ┤", "  │", "0 └────────", "   "]


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    (("utf-8", BLOCKS), ("UTF-8", BLOCKS), ("ascii", ASCII), ("iso-8859-1", ASCII), (None, ASCII), ("nonsense", ASCII)),
)
def test_blocks_are_drawn_where_they_can_be_written(encoding: str | None, glyphs: Glyphs) -> None:
    """An encoding that lacks blocks, or that nobody knows, gets ASCII."""
    assert glyphs_for(encoding) is glyphs
