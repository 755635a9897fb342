"""``keystead audit erase``: addresses and user agents beside events, gone for good while every proof holds."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.audit.asking import SERVICE
from keystead.cli.flags import YES_FLAG, with_options
from keystead.cli.message import Message, without_empty
from keystead.cli.parameters import Identifier, Moment
from keystead.cli.session import Session, ask_before, speaks_to_server


@command(
    "erase",
    examples=(
        "keystead audit erase --owner cus_42 --reason 'request of 2026-11-02'",
        "keystead audit erase --client-ip 203.0.113.7",
        "keystead audit erase --before 90d --yes",
    ),
)
@with_options(
    click.option("--owner", "owner_id", type=Identifier(), metavar="OWNER_ID", help="Beside events about this owner."),
    click.option("--key", "key_id", type=Identifier(), metavar="KEY_ID", help="Beside events about or by this key."),
    click.option("--client-ip", metavar="ADDRESS", help="Beside events from this address."),
    click.option("--before", type=Moment(past=True), help="Beside events before a time, a day, or 90d ago."),
    click.option("--reason", default="", help="Why, for the audit record."),
    YES_FLAG,
)
@speaks_to_server(mutates=True)
def erase(session: Session, *, agreed: bool, reason: str, **given: Any) -> None:
    """Erase what is private beside events: addresses and user agents.

    All that is given must hold. Records and proofs stay as they are, and an export still verifies: a record holds its
    private values only as salted hashes, and the salts are erased too. That it was done is an event itself.
    """
    message = without_empty(
        {
            "ownerId": given["owner_id"],
            "keyId": given["key_id"],
            "clientIp": given["client_ip"],
            "before": given["before"],
        }
    )
    if not message:
        raise click.UsageError("say beside which events: --owner, --key, --client-ip or --before")
    ask_before("Erase what is private beside these events for good?", agreed=agreed)
    session.show(_erase(session, {**message, "reason": reason}), _print)


def _erase(session: Session, message: Message) -> Message:
    """Call until nothing is left: one call erases a bounded part."""
    erased = 0
    while True:
        reply = session.change(SERVICE, "EraseEventData", message)
        erased += int(reply["erased"])
        if not reply["more"]:
            return {"erased": erased}


def _print(reply: Message) -> None:
    count = reply["erased"]
    click.echo(f"Erased beside {count:,} {'event' if count == 1 else 'events'}.")
