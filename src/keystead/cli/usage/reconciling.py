"""``keystead usage reconcile``: whether what was told to the billing service is what was used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.exporting import OUTPUT_OPTION, printing_to
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import show
from keystead.cli.parameters import Identifier, Moment
from keystead.cli.problems import ExitCode
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Cell, Column, Table, cell
from keystead.cli.usage.asking import TO, WORLD, Span
from keystead.cli.usage.rendering import at, counted, number, right, written


@command(
    "reconcile",
    examples=(
        "keystead usage reconcile",
        "keystead usage reconcile --from 2027-01-01 --to 2027-02-01 --owner cus_42 --include-equal",
    ),
)
@click.option(
    "--from",
    "from_at",
    type=Moment(past=True),
    default="30d",
    show_default=True,
    help="Since a time, a day, or 7d ago.",
)
@TO
@with_options(
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="This owner alone."),
    click.option("--meter", help="This meter alone."),
    click.option("--environment", type=WORLD, help="This world alone."),
    click.option("--include-equal", is_flag=True, help="Show the sums that agree too."),
    OUTPUT_OPTION,
)
@speaks_to_server()
@click.pass_context
def reconcile(context: click.Context, session: Session, /, *, output: Path | None, **given: Any) -> None:
    """Compare usage with what the billing service acknowledged.

    Both are sums by owner and meter over whole hours; equal sums prove that everything used was told, once. Exits 1
    when they differ.
    """
    message = {
        **Span(given["from_at"], given["to_at"]).message(),
        "ownerId": given["owner_id"],
        "meter": given["meter"],
        "environment": given["environment"],
        "includeEqual": given["include_equal"] or None,
    }
    reply = session.call("EntitlementService", "ReconcileUsage", message)
    with printing_to(output):
        session.show(reply, _print)
    if not reply.get("equal"):
        context.exit(ExitCode.REFUSED)


def _print(reply: Message) -> None:
    meters: Sequence[Message] = reply.get("meters", [])
    if meters:
        show(_table(meters))
    compared = f"from {at(reply.get('from'))} to {at(reply.get('to'))} UTC"
    pending = number(reply.get("pendingEvents"))
    waiting = f" {counted(pending)} events wait to be acknowledged." if pending else ""
    verdict = "Equal" if reply.get("equal") else "Not equal"
    click.echo(f"{verdict}, {compared}.{waiting}")


def _table(meters: Sequence[Message]) -> Table:
    made = Table(
        (
            Column("OWNER"),
            Column("ENV", whole=True),
            Column("METER"),
            Column("USED", whole=True),
            Column("ACKNOWLEDGED", whole=True),
            Column("PENDING", whole=True),
            Column("DIFFERENCE", whole=True),
        )
    )
    numbers = [right([counted(meter[name]) for meter in meters]) for name in ("used", "acknowledged", "pending")]
    differences = _differences(meters)
    for meter, used, acknowledged, pending, difference in zip(meters, *numbers, differences, strict=True):
        names = (cell(written(meter["ownerId"])), cell(meter["environment"].lower()), cell(written(meter["meter"])))
        made.rows.append((*names, used, acknowledged, pending, difference))
    return made


def _differences(meters: Sequence[Message]) -> list[Cell]:
    """Write acknowledged minus used: below zero something was not billed, above something was billed twice."""
    found = [number(meter["acknowledged"]) - number(meter["used"]) for meter in meters]
    width = max(len(f"{difference:+,}") for difference in found)
    return [cell(f"{value:+,}".rjust(width) if value else "0".rjust(width), "red" if value else "") for value in found]
