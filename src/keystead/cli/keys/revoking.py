"""The end of keys, one by one or all that match."""

from __future__ import annotations

import sys
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import WAIT_FLAG, YES_FLAG, with_options
from keystead.cli.keys.rendering import print_key
from keystead.cli.message import Message
from keystead.cli.parameters import ENVIRONMENT, KIND, Identifier
from keystead.cli.session import Session, ask_before, speaks_to_server

_SERVICE = "KeyService"
_REASON = click.option("--reason", default="", help="Why, for the audit record.")


@command(
    "revoke",
    examples=(
        'keystead keys revoke key_01HZX… --reason "found in a public repository"',
        "keystead keys revoke key_01HZX… --wait --timeout 1m",
    ),
)
@click.argument("key_id", type=Identifier())
@_REASON
@WAIT_FLAG
@speaks_to_server(mutates=True)
def revoke(session: Session, *, key_id: str, reason: str, wait: bool) -> None:
    """Refuse a key for good.

    It is not asked twice, because a leak does not wait; revoking cannot be taken back. Every secret of the key is
    refused by this server at once and by all others within a second.
    """
    reply = session.change(_SERVICE, "RevokeKey", {"keyId": key_id, "reason": reason, "wait": wait or None})
    session.show(reply, lambda shown: print_key(shown["key"]))


@command(
    "revoke-matching",
    examples=(
        "keystead keys revoke-matching --owner cus_42 --validate-only",
        'keystead keys revoke-matching --tag ci --environment test --reason "runner was broken into"',
        "keystead keys revoke-matching --prefix acme_live_4f --expected-count 1 --json",
    ),
)
@with_options(
    click.option("--owner", "owner_id", default="", metavar="OWNER_ID", help="Of this owner."),
    click.option("--environment", type=ENVIRONMENT, help="Of this world."),
    click.option("--kind", type=KIND, help="Of this kind."),
    click.option("--scope", default="", help="Granted exactly this scope."),
    click.option("--tag", default="", help="With this tag."),
    click.option("--prefix", default="", help="With a secret that begins so, at least BRAND_live_ or BRAND_test_."),
    click.option("--key", "key_ids", multiple=True, type=Identifier(), metavar="KEY_ID", help="This key; repeatable."),
    _REASON,
    click.option("--validate-only", is_flag=True, help="Only say what would be revoked."),
    click.option("--expected-count", type=click.IntRange(0), help="Refuse unless exactly so many keys match."),
    WAIT_FLAG,
    YES_FLAG,
)
@speaks_to_server(mutates=True)
def revoke_matching(
    session: Session, *, agreed: bool, validate_only: bool, expected_count: int | None, **given: Any
) -> None:
    """Refuse every key that matches for good, all or none.

    All filters given must hold, and one must be given. On a terminal it first says how many keys match and asks; a
    program says how many it expects (--expected-count), or --yes.
    """
    message = {
        "ownerId": given["owner_id"],
        "environment": given["environment"],
        "kind": given["kind"],
        "scope": given["scope"],
        "tag": given["tag"],
        "prefix": given["prefix"],
        "keyIds": list(given["key_ids"]),
        "reason": given["reason"],
        "expectedCount": expected_count,
        "wait": given["wait"] or None,
    }
    if validate_only:
        reply = session.change(_SERVICE, "RevokeKeys", {**message, "validateOnly": True})
        session.show(reply, lambda shown: _print_revoked(shown, said="would be revoked"))
        return
    if expected_count is None and not agreed:
        message["expectedCount"] = _ask_about(session, message)
    reply = session.change(_SERVICE, "RevokeKeys", message)
    session.show(reply, lambda shown: _print_revoked(shown, said="revoked"))


def _ask_about(session: Session, message: dict[str, Any]) -> int:
    """Return how many keys match, once the person agreed to revoke exactly so many."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this cannot be taken back and there is no terminal to ask on: give --expected-count or --yes"
        )
    found = session.call(_SERVICE, "RevokeKeys", {**message, "validateOnly": True})
    count = int(found["count"])
    ask_before(f"Revoke {_counted(count)} for good?", agreed=False)
    return count


def _print_revoked(reply: Message, *, said: str) -> None:
    for key_id in reply["keyIds"]:
        click.echo(key_id)
    click.echo(f"{_counted(reply['count'])} {said}.", err=True)


def _counted(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"
