"""Changing what was counted: forgetting it, and putting into balances what was paid for."""

from __future__ import annotations

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.message import Message
from keystead.cli.parameters import Identifier
from keystead.cli.session import Session, speaks_to_server
from keystead.cli.usage.rendering import counted, written

_SERVICE = "LimitService"
_KEY_ID = click.argument("key_id", type=Identifier())
_REASON = click.option("--reason", default="", help="Why, for the audit record.")
_DELTA_MAX = 2**31 - 1


@command(
    "reset",
    examples=(
        'keystead limits reset key_01HZX… --reason "load test is over"',
        "keystead limits reset key_01HZX… --name daily --name requests",
    ),
)
@_KEY_ID
@click.option("--name", "names", multiple=True, help="This limit; repeatable. [all that the key alone counts on]")
@_REASON
@speaks_to_server(mutates=True)
def reset(session: Session, *, key_id: str, names: tuple[str, ...], reason: str) -> None:
    """Forget what a key has spent of its limits.

    Without --name it is all limits that are counted on the key alone. One that the key shares with others, on its owner
    or the workspace, is reset for all of them, and only when it is named.
    """
    message = {"keyId": key_id, "names": list(names), "reason": reason}
    session.show(session.change(_SERVICE, "ResetLimits", message), _print_reset)


@command(
    "adjust",
    examples=(
        'keystead limits adjust key_01HZX… credit --add 1000 --reason "bought on 12 May"',
        "keystead limits adjust key_01HZX… credit --take 250",
    ),
)
@_KEY_ID
@click.argument("name")
@with_options(
    click.option("--add", type=click.IntRange(1, _DELTA_MAX), help="Add so many credits."),
    click.option("--take", type=click.IntRange(1, _DELTA_MAX), help="Take so many away; a balance ends at 0."),
    _REASON,
)
@speaks_to_server(mutates=True)
def adjust(session: Session, *, key_id: str, name: str, add: int | None, take: int | None, reason: str) -> None:
    """Add to a balance of credits, or take from it.

    NAME is a limit of kind credits that applies to the key; the balance may be its owner's. Repeating the command with
    the idempotency key that an error named never adds twice.
    """
    if (add is None) == (take is None):
        raise click.UsageError("give either --add or --take")
    delta = add if add is not None else -(take or 0)
    message = {"keyId": key_id, "name": name, "delta": delta, "reason": reason}
    session.show(session.change(_SERVICE, "AdjustCredits", message), _print_balance)


def _print_reset(reply: Message) -> None:
    names = reply.get("names", [])
    click.echo(f"Reset: {', '.join(map(written, names))}." if names else "No limit is counted on the key alone.")


def _print_balance(reply: Message) -> None:
    click.echo(f"The balance is {counted(reply.get('balance'))} now.")
