"""What a screen shows, as data: texts of pieces with a style each, and tables of them.

Commands compose it, ``painting`` puts it on the screen; so what is shown can be read by a test, and rich, which takes a
tenth of a second to load, is loaded when there is a person to paint for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from keystead.cli.text import harmless

PIPE_COLUMNS = 10_000
"""How wide a pipe is: nothing is broken over lines there, and no column is kept narrow."""

Cell = tuple[tuple[str, str], ...]
"""A text: pieces, each with its style (``bold``, ``dim``, a colour, or nothing)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. What is ``whole`` is never broken over lines."""

    heading: str
    whole: bool = False
    columns_max: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; without headings when every heading is empty."""

    columns: tuple[Column, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)


Block = Table | Cell


def cell(text: str, style: str = "") -> Cell:
    """Make a text of one piece; control characters in it become question marks."""
    return ((harmless(text), style),)


def joined(cells: Iterable[Cell], separator: str) -> Cell:
    """Put texts one after another."""
    pieces: list[tuple[str, str]] = []
    for item in cells:
        pieces += [(separator, ""), *item] if pieces else item
    return tuple(pieces)
