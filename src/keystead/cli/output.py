"""What commands print: tables for people, or the reply as one JSON object for programs.

A pipe gets the same words as a terminal, without colour and without wrapping, so that one thing stays on one line.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from keystead.cli.tables import PIPE_COLUMNS, Block, Cell, Column, Table, cell
from keystead.cli.text import ago, until
from keystead.kernel.clock import SystemClock

NOTHING = "-"


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Make a table of names and values; what is empty is left out."""
    rows: list[tuple[Cell, ...]] = [(cell(name, "dim"), cell(value)) for name, value in pairs if value]
    return Table((Column("", whole=True), Column("")), rows)


def show(*blocks: Block) -> None:
    """Print for people, one block below the other."""
    from keystead.cli.painting import paint  # noqa: PLC0415 -- rich takes a tenth of a second that programs need not wait

    paint(blocks, columns=columns_available(), terminal=sys.stdout.isatty())


def columns_available() -> int:
    """Return how wide the terminal is; a pipe is wide enough for everything."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS


def print_json(reply: Mapping[str, Any]) -> None:
    """Print one object."""
    click.echo(json.dumps(reply, ensure_ascii=False, indent=2))


def entries(values: Mapping[str, str]) -> str:
    """Write metadata, one entry on each line."""
    return "\n".join(f"{name}={value}" for name, value in sorted(values.items()))


def past(timestamp: str | None, *, never: str = NOTHING) -> str:
    """Say how long ago something was."""
    return ago(timestamp, now_ms=SystemClock().now_ms(), never=never)


def future(timestamp: str | None, *, never: str = NOTHING, parts: int = 1) -> str:
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


def print_page_end(reply: Mapping[str, Any], items: Sequence[object], *, what: str) -> None:
    """Say how to get the next page, or that there was nothing."""
    token = reply.get("nextPageToken", "")
    if token:
        click.echo(f"\nThere are more. Next page: the same command with --page-token {token}\nAll at once: --all")
    elif not items:
        click.echo(f"No {what}.", err=True)
