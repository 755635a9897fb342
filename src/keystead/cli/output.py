"""What commands print: a table for people, or the reply as one JSON object for programs.

A pipe gets the same words as a terminal, without colour and without wrapping, so that one thing stays on one line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keystead.cli.text import ago, harmless, until
from keystead.kernel.clock import SystemClock

_PIPE_COLUMNS = 10_000
_NOTHING = "-"


def print_json(reply: Mapping[str, Any]) -> None:
    """Print one object."""
    click.echo(json.dumps(reply, ensure_ascii=False, indent=2))


def screen() -> Console:
    """Return where people read: as wide as the terminal, or without end in a pipe."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else _PIPE_COLUMNS, highlight=False, markup=False, emoji=False)


def cell(text: str, style: str = "") -> Text:
    """Make a piece of a table of a text that is not ours."""
    return Text(harmless(text), style=style)


def table(*headings: str) -> Table:
    """Make an empty table without lines: spaces separate better, and copy better."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def facts(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Make a table of names and values; what is empty is left out."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            made.add_row(name, cell(value) if isinstance(value, str) else value)
    return made


def lines(values: Sequence[str]) -> str:
    """Write a list, one entry on each line."""
    return "\n".join(values)


def entries(values: Mapping[str, str]) -> str:
    """Write metadata, one entry on each line."""
    return "\n".join(f"{name}={value}" for name, value in sorted(values.items()))


def past(timestamp: str | None, *, never: str = _NOTHING) -> str:
    """Say how long ago something was."""
    return ago(timestamp, now_ms=SystemClock().now_ms(), never=never)


def future(timestamp: str | None, *, never: str = _NOTHING, parts: int = 1) -> str:
    """Say how long until something will be."""
    return until(timestamp, now_ms=SystemClock().now_ms(), never=never, parts=parts)


def exactly(timestamp: str | None, said: str) -> str:
    """Write a moment and, in brackets, how a person says it; an empty text when there is none."""
    return f"{timestamp} ({said})" if timestamp else ""


def print_secret(secret: str, *, what: str) -> None:
    """Print a secret alone on the last line, so that it can be copied, or say why there is none."""
    if not secret:
        click.echo(
            f"\nThe {what} is not shown: this repeats a call of more than 10 minutes ago, and a secret is shown once."
            "\nRotate the key to get a new one."
        )
        return
    click.echo(f"\nThe {what}, shown this once. Nothing can show it again; keep it now:\n")
    click.echo(secret)


def print_page_end(reply: Mapping[str, Any], *, shown: int, what: str) -> None:
    """Say how to get the next page, or that there was nothing."""
    token = reply.get("nextPageToken", "")
    if token:
        click.echo(f"\nThere are more. Next page: the same command with --page-token {token}\nAll at once: --all")
    elif not shown:
        click.echo(f"No {what}.", err=True)
