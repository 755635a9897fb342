"""``keystead nodes …``: the processes that serve, for whoever runs them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from keystead.cli.application import command, group
from keystead.cli.message import Message
from keystead.cli.output import past, show
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.tables import Column, Table, cell

_SERVICE = "NodeService"


@command("list", examples=("keystead nodes list",))
@speaks_to_server()
def list_nodes(session: Session) -> None:
    """List the processes that may still admit a key, the oldest first.

    A change that waits (`--wait`) waits for each of them. One that was silent for longer than its staleness bound and
    a second can admit nothing any more and is left out, unless it serves stale answers. Needs an operator key.
    """
    session.show(session.call(_SERVICE, "ListNodes", {}), _print_nodes)


def _print_nodes(reply: Message) -> None:
    found: Sequence[Message] = reply["nodes"]
    columns = ("NODE", "HOST", "VERSION", "STARTED", "SEEN", "BEHIND", "SERVES STALE")
    made = Table(tuple(Column(name, whole=name in {"NODE", "STARTED", "SEEN"}) for name in columns))
    for node in found:
        behind = int(node["behindEvents"])
        made.rows.append(
            (
                cell(node["id"]),
                cell(node["host"]),
                cell(node["version"]),
                cell(past(node.get("startedAt"))),
                cell(past(node.get("seenAt"))),
                cell(f"{behind:,} events" if behind else "nothing"),
                cell("yes" if node["servesStale"] else "no"),
            )
        )
    if found:
        show(made)
    else:
        click.echo("No process serves.")


_HELP = """See the processes that serve.

Every process says twice a second that it lives and how far it has read the event log.
"""

nodes = group("nodes", help_text=_HELP, commands=(list_nodes,))
