"""``keystead usage unused``: what keys were granted and did not use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.exporting import OUTPUT_OPTION, printing_to
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.output import columns_available, past, print_page_end, show
from keystead.cli.parameters import DURATION, Identifier, duration_json
from keystead.cli.session import Session, in_pages, speaks_to_server
from keystead.cli.tables import PIPE_COLUMNS, Cell, Column, Table, cell, joined
from keystead.cli.usage.asking import SERVICE, WORLD
from keystead.cli.usage.rendering import written


@command(
    "unused",
    examples=("keystead usage unused", "keystead usage unused --for 90d --owner cus_42 --all --json"),
)
@with_options(
    click.option("--for", "unused_ms", type=DURATION, default="30d", show_default=True, help="Unused for so long."),
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="Keys of this owner."),
    click.option("--environment", type=WORLD, help="Keys of this world."),
    OUTPUT_OPTION,
)
@in_pages
@speaks_to_server()
def unused(session: Session, *, page: dict[str, Any], unused_ms: int, output: Path | None, **given: Any) -> None:
    """List what keys were granted and did not use.

    A key that nobody uses can be revoked, and a scope that no admitted call asked for can be taken away, before
    somebody else finds a use for it. Keys younger than the time in question are left out.
    """
    message = {
        **page,
        "unusedFor": duration_json(unused_ms),
        "ownerId": given["owner_id"],
        "environment": given["environment"],
    }
    reply = session.pages(SERVICE, "ListUnusedGrants", message, field="grants")
    with printing_to(output):
        session.show(reply, _print)


def _print(reply: Message) -> None:
    grants: Sequence[Message] = reply.get("grants", [])
    if grants:
        show(_table(grants, one_line=columns_available() == PIPE_COLUMNS))
    print_page_end(reply, grants, what="keys have anything unused")


def _table(grants: Sequence[Message], *, one_line: bool) -> Table:
    """Make a table; what stands under one another on a terminal shares a line in a pipe."""
    between = ", " if one_line else "\n"
    made = Table(
        (
            Column("UNUSED", whole=True),
            Column("KEY, NAME"),
            Column("OWNER, ENVIRONMENT", columns_max=20),
            Column("LAST USED", whole=True),
        )
    )
    for grant in grants:
        row = (
            _what(grant, between),
            joined([cell(grant["keyId"]), cell(written(grant["name"]), "dim")], between),
            joined([cell(written(grant["ownerId"])), cell(grant["environment"].lower(), "dim")], between),
            cell(past(grant.get("lastUsedAt"), never="never")),
        )
        made.rows.append(row)
    return made


def _what(grant: Message, between: str) -> Cell:
    if grant["idle"]:
        return cell("the whole key", "yellow")
    return joined([cell(written(scope)) for scope in grant["scopes"]], between)
