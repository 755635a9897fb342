"""From data to the screen, by rich; the only module that knows it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import click
import rich.table
from rich.console import Console
from rich.text import Text

from keystead.cli.tables import PIPE_COLUMNS, Block, Table


def paint(blocks: Sequence[Block], *, columns: int, terminal: bool) -> None:
    """Print ``blocks`` on a terminal of so many ``columns``, or into a pipe."""
    for line in painted(blocks, columns=columns, terminal=terminal):
        click.echo(line, color=terminal)


def painted(blocks: Sequence[Block], *, columns: int, terminal: bool) -> list[str]:
    """Return the lines that ``paint`` prints."""
    paper = io.StringIO()
    console = Console(
        file=paper,
        width=columns,
        force_terminal=terminal,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for block in blocks:
        if isinstance(block, Table):
            console.print(_table(block, narrow=columns < PIPE_COLUMNS))
        else:
            console.print(Text.assemble(*block), soft_wrap=True)
    return [line.rstrip() for line in paper.getvalue().splitlines()]


def _table(data: Table, *, narrow: bool) -> rich.table.Table:
    """Make a table without lines: spaces separate better, and copy better."""
    made = rich.table.Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=any(column.heading for column in data.columns),
    )
    for column in data.columns:
        made.add_column(
            column.heading, overflow="fold", no_wrap=column.whole, max_width=column.columns_max if narrow else None
        )
    for row in data.rows:
        made.add_row(*(Text.assemble(*item) for item in row))
    return made
