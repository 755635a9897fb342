"""``keystead usage top``: who or what calls the most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.charts import bar
from keystead.cli.exporting import CSV_FLAG, OUTPUT_OPTION, Row, demand_one_format, print_csv, printing_to
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import NOTHING, show
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Column, Table, cell
from keystead.cli.usage.asking import FROM, GROUP, SERVICE, TO, Span, filter_of, filtered
from keystead.cli.usage.rendering import (
    counted,
    glyphs,
    group_name,
    number,
    percent,
    print_completeness,
    right,
    room_beside,
)

TOP_COLUMNS = ("group", "calls", "cost", "outcomes", "errors")
_LIMIT_MAX = 100
_BAR_COLUMNS_MIN = 8
_BAR_COLUMNS_MAX = 40
_NAME_COLUMNS_MAX = 34


@command(
    "top",
    examples=(
        "keystead usage top",
        "keystead usage top --by owner --from 7d --limit 20",
        "keystead usage top --code rate_limited --csv",
    ),
)
@click.option("--by", "group_by", type=GROUP, default="KEY", help="What to rank. [key]")
@click.option("--limit", type=click.IntRange(1, _LIMIT_MAX), default=10, show_default=True, help="So many at most.")
@FROM
@TO
@filtered()
@with_options(CSV_FLAG, OUTPUT_OPTION)
@speaks_to_server()
def top(session: Session, *, as_csv: bool, output: Path | None, **given: Any) -> None:
    """Rank who or what calls the most.

    It finds the key that is being abused, the operation that everybody uses, the owner whose calls fail. Errors are
    those among the calls it was reported for how they ended.
    """
    demand_one_format(as_csv=as_csv, as_json=session.as_json)
    message = {
        **Span(given["from_at"], given["to_at"]).message(),
        "groupBy": given["group_by"],
        "filter": filter_of(given),
        "limit": given["limit"],
    }
    reply = session.call(SERVICE, "TopUsage", message)
    with printing_to(output):
        if as_csv:
            print_csv(TOP_COLUMNS, _rows(reply))
        else:
            session.show(reply, lambda found: _print(found, given["group_by"]))


def _rows(reply: Message) -> Iterator[Row]:
    for total in reply.get("totals", []):
        yield {"group": total["group"], **{name: number(total.get(name)) for name in TOP_COLUMNS[1:]}}


def _print(reply: Message, dimension: str) -> None:
    totals: Sequence[Message] = reply.get("totals", [])
    if totals:
        show(_table(totals, dimension))
    else:
        click.echo("No calls match.", err=True)
    print_completeness(reply)


def _table(totals: Sequence[Message], dimension: str) -> Table:
    found = [
        (dimension, [cell(group_name(total["group"], dimension)) for total in totals]),
        ("CALLS", right([counted(total["calls"]) for total in totals])),
        ("COST", right([counted(total["cost"]) for total in totals])),
        ("ERRORS", right([_errors(total) for total in totals])),
    ]
    room = room_beside(*found, name_columns_max=_NAME_COLUMNS_MAX)
    columns = min(_BAR_COLUMNS_MAX, max(_BAR_COLUMNS_MIN, room))
    calls = [number(total["calls"]) for total in totals]
    bars = [cell(bar(count, max(calls), columns=columns, glyphs=glyphs()), "cyan") for count in calls]
    heads = [Column(heading, whole=True) for heading, _ in found[1:]]
    return Table(
        (Column(dimension, columns_max=_NAME_COLUMNS_MAX), *heads, Column("", whole=True)),
        list(zip(*(cells for _, cells in found), bars, strict=True)),
    )


def _errors(total: Message) -> str:
    outcomes = number(total.get("outcomes"))
    return percent(number(total.get("errors")), outcomes) if outcomes else NOTHING
