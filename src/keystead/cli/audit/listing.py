"""``keystead audit list``: what happened, the newest first."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.audit.asking import FILTERS, SERVICE, filter_of
from keystead.cli.audit.rendering import print_events
from keystead.cli.flags import with_options
from keystead.cli.parameters import Identifier, Moment, Name
from keystead.cli.session import Session, in_pages, speaks_to_server


@command(
    "list",
    examples=(
        "keystead audit list --key key_01HZX… --details",
        "keystead audit list --actor key_01HZX… --action 'key.*' --from 7d",
        "keystead audit list --owner cus_42 --oldest-first --all --json",
    ),
)
@with_options(
    *FILTERS,
    click.option(
        "--actor",
        "actor_id",
        type=Identifier(),
        metavar="ACTOR_ID",
        help="Events by this key, or this part of the service.",
    ),
    click.option("--target", type=Identifier(), metavar="TARGET_ID", help="Events about this, whatever it is."),
    click.option("--request-id", metavar="TEXT", help="Events of the call that its caller named so."),
    click.option("--environment", type=Name(("LIVE", "TEST")), help="Events of this world, and those of both."),
    click.option("--from", "from_at", type=Moment(past=True), help="Since a time, a day, or 7d ago."),
    click.option("--to", "to_at", type=Moment(past=True), help="Up to a time, a day, or 1h ago."),
    click.option("--oldest-first", is_flag=True, help="Turn the order round."),
    click.option("--details", is_flag=True, help="Show whole events: what changed, why, and from where."),
)
@in_pages
@speaks_to_server()
def list_events(session: Session, *, page: dict[str, Any], details: bool, **given: Any) -> None:
    """List what happened, the newest first.

    All filters given must hold. INDEX is an event's place in the workspace's log; one that has just happened has none
    yet. Secrets are never in it.
    """
    message = {
        **page,
        **filter_of(given),
        "actorId": given["actor_id"],
        "target": given["target"],
        "requestId": given["request_id"],
        "environment": given["environment"],
        "from": given["from_at"],
        "to": given["to_at"],
        "orderBy": "occurred_at asc" if given["oldest_first"] else "",
    }
    found = session.pages(SERVICE, "ListEvents", message, field="events")
    session.show(found, lambda reply: print_events(reply, details=details))
