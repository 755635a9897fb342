"""How usage looks to people: numbers that line up, shares, rates, times a service took."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import click

from keystead.cli.charts import Glyphs, glyphs_for
from keystead.cli.output import NOTHING, columns_available, past
from keystead.cli.tables import PIPE_COLUMNS, Cell, cell
from keystead.cli.text import moment_ms

CHART_COLUMNS_MAX = 160
_PIPE_CHART_COLUMNS = 80
_NO_KEY = "(no key found)"
_UNNAMED = {"OPERATION": "(no name)", "TAG": "(no tag)", "KEY": _NO_KEY, "SECRET": _NO_KEY, "OWNER": _NO_KEY}
_DENIALS = {
    "RATE_LIMITED": "yellow",
    "QUOTA_EXCEEDED": "yellow",
    "VALID": "green",
}


def number(value: object) -> int:
    """Read a count, which JSON writes as a number or, when it may be large, as a text."""
    return int(value) if isinstance(value, int | str) and value else 0


def counted(value: object) -> str:
    """Write a count, its thousands apart."""
    return f"{number(value):,}"


def percent(part: float, whole: float = 1.0) -> str:
    """Write a share in per cent; nothing when there is no whole. What is not all or nothing never looks like it."""
    if not whole:
        return NOTHING
    share = part / whole * 100
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.1f} %" if share not in {0.0, 100.0} else f"{share:.0f} %"


def duration_us(text: object) -> int | None:
    """Read a duration as protobuf's JSON writes it, in microseconds; None when there is none."""
    if not isinstance(text, str) or not text.endswith("s"):
        return None
    return round(float(text[:-1]) * 1_000_000)


def took(text: object) -> str:
    """Say how long something took, to three digits at most."""
    microseconds = duration_us(text)
    if microseconds is None:
        return NOTHING
    if microseconds < 1_000_000:
        milliseconds = microseconds / 1_000
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{microseconds / 1_000_000:.3g} s"


def milliseconds(text: object) -> str:
    """Write a duration in milliseconds for a program; an empty text when there is none."""
    microseconds = duration_us(text)
    return "" if microseconds is None else f"{microseconds / 1_000:.3f}".rstrip("0").rstrip(".")


def group_name(group: str, dimension: str) -> str:
    """Name a group; those without a name as well."""
    return written(group or _UNNAMED.get(dimension, "(none)"))


def code_cell(code: str) -> Cell:
    """Write a verdict."""
    return cell(code.lower(), _DENIALS.get(code, "red"))


def written(text: str) -> str:
    """Replace what standard output cannot write."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def glyphs() -> Glyphs:
    """Choose what to draw with on standard output."""
    return glyphs_for(getattr(sys.stdout, "encoding", None))


def right(texts: Sequence[str]) -> list[Cell]:
    """Make texts that end below one another, as numbers should."""
    width = max(map(len, texts), default=0)
    return [cell(text.rjust(width)) for text in texts]


def room_beside(*columns: tuple[str, Sequence[Cell]], name_columns_max: int) -> int:
    """Return how many columns a picture has beside ``columns`` of a table (heading, cells); the first holds names."""
    widths = [
        max(len(heading), *(sum(len(text) for text, _ in found) for found in cells)) for heading, cells in columns
    ]
    return picture_columns() - min(widths[0], name_columns_max) - sum(widths[1:]) - 2 * len(widths)


def picture_columns() -> int:
    """Return how wide a picture may be: as the terminal, within reason; a pipe has no width of its own."""
    columns = columns_available()
    return _PIPE_CHART_COLUMNS if columns == PIPE_COLUMNS else min(columns, CHART_COLUMNS_MAX)


def at(timestamp: str | None, zone: tzinfo = UTC) -> str:
    """Write a moment to the second, as ``2027-01-31 12:00:00``."""
    return moment(moment_ms(timestamp), zone, seconds=True) if timestamp else NOTHING


def moment(at_ms: int, zone: tzinfo = UTC, *, seconds: bool = False) -> str:
    """Write a moment to the minute, or to the second."""
    return datetime.fromtimestamp(at_ms // 1_000, zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def print_completeness(reply: Mapping[str, Any], zone: tzinfo = UTC) -> None:
    """Say up to when the numbers are complete."""
    timestamp = reply.get("completeUntil")
    said = f"Complete until {at(timestamp, zone)} ({past(timestamp)})." if timestamp else "Nothing was counted yet."
    click.echo(said, err=True)
