"""The benchmark's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Check, Section, as_markdown, written
from bench.summary import median, percentile, ratio


@pytest.mark.parametrize(("percent", "expected"), ((0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)))
def test_percentiles_are_nearest_ranks(percent: float, expected: int) -> None:
    """The p-th percentile is the smallest value that p percent of all values do not exceed."""
    assert percentile(list(range(1, 101)), percent) == expected


@given(st.lists(st.integers(0, 1_000), min_size=1), st.integers(0, 100))
def test_a_percentile_is_one_of_the_values(values: list[int], percent: int) -> None:
    """No value is made up, and enough of them lie at or below it."""
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)


def test_nothing_measured_is_zero() -> None:
    """Without values there is no crash and no invented number."""
    assert (percentile([], 50), median([]), ratio(1, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "at_most", "passed"), ((5, True, True), (5.1, True, False), (4.9, False, False), (5, False, True))
)
def test_a_check_knows_its_side(value: float, at_most: bool, passed: bool) -> None:  # noqa: FBT001 -- parameters of a case
    """A bound is kept when it is met exactly, and broken on one side alone."""
    assert Check("promise", value, 5, "x", at_most=at_most).passed is passed


@pytest.mark.parametrize(
    ("cell", "text"), (("word", "word"), (1_234_567, "1,234,567"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"))
)
def test_numbers_are_written_for_people(cell: str | float, text: str) -> None:
    """No table shows more digits than were measured."""
    assert written(cell) == text


def test_a_page_of_documentation_shows_tables_and_verdicts() -> None:
    """What the documentation shows is what was printed, the broken promises included."""
    check = Check("fast", 4.0, 5.0, "x", at_most=False)
    section = Section("Speed", ("call", "calls/s"), [("verify", 12_345.6)], [check], ["of one run"])
    assert as_markdown([section]).splitlines() == [
        "### Speed",
        "",
        "| call | calls/s |",
        "| --- | --- |",
        "| verify | 12,346 |",
        "",
        "- of one run",
        "",
        "### What was promised",
        "",
        "| promise | measured | bound | verdict |",
        "| --- | --- | --- | --- |",
        "| fast | 4.00 x | ≥ 5.00 x | FAIL |",
    ]
