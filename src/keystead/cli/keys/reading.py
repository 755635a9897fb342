"""Looking at keys without changing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.keys.rendering import print_key, print_keys
from keystead.cli.message import Message
from keystead.cli.output import print_page_end
from keystead.cli.parameters import ENVIRONMENT, KIND, STATE, Identifier, Moment
from keystead.cli.secret_input import SECRET_OPTIONS, read_secret
from keystead.cli.session import Session, in_pages, speaks_to_server

_SERVICE = "KeyService"


@command(
    "list",
    examples=(
        "keystead keys list --owner cus_42",
        "keystead keys list --state active --unused-since 90d --all",
        "keystead keys list --expires-before 14d --json",
    ),
)
@with_options(
    click.option("--owner", "owner_id", default="", metavar="OWNER_ID", help="Of this owner."),
    click.option("--environment", type=ENVIRONMENT, help="Of this world."),
    click.option("--state", type=STATE, help="In this state; active leaves out what has expired."),
    click.option("--kind", type=KIND, help="Of this kind."),
    click.option("--scope", default="", help="Granted exactly this scope."),
    click.option("--tag", default="", help="With this tag."),
    click.option("--prefix", default="", help="With a secret that begins so, at least BRAND_live_ or BRAND_test_."),
    click.option("--unused-since", type=Moment(past=True), help="Not used since: a time, a day, or 90d ago."),
    click.option("--expires-before", type=Moment(), help="Ending before: a time, a day, or 14d from now."),
    click.option("--query", default="", help="With this in name, description, id or owner."),
    click.option("--oldest-first", is_flag=True, help="Turn the order round."),
)
@in_pages
@speaks_to_server()
def list_keys(session: Session, *, page: dict[str, Any], **given: Any) -> None:
    """List keys, the newest first.

    All filters given must hold. A key in the middle of a rotation shows both its secrets and how long the old one
    lasts.
    """
    message = {
        **page,
        "ownerId": given["owner_id"],
        "environment": given["environment"],
        "state": given["state"],
        "kind": given["kind"],
        "scope": given["scope"],
        "tag": given["tag"],
        "prefix": given["prefix"],
        "unusedSince": given["unused_since"],
        "expiresBefore": given["expires_before"],
        "query": given["query"],
        "orderBy": "created_at asc" if given["oldest_first"] else "",
    }
    session.show(session.pages(_SERVICE, "ListKeys", message, field="keys"), _print_page)


@command("get", examples=("keystead keys get key_01HZX…", "keystead keys get key_01HZX… --json"))
@click.argument("key_id", type=Identifier())
@speaks_to_server()
def get(session: Session, *, key_id: str) -> None:
    """Show one key and its secrets' public parts.

    Each secret tells when it was last used, which is how one sees whether a rotation can be finished.
    """
    session.show(session.call(_SERVICE, "GetKey", {"keyId": key_id}), lambda reply: print_key(reply["key"]))


@command(
    "identify",
    examples=(
        "keystead keys identify",
        "keystead keys identify --file found.txt",
        "pbpaste | keystead keys identify -",
    ),
)
@SECRET_OPTIONS
@speaks_to_server()
def identify(session: Session, *, words: tuple[str, ...], file: Path | None) -> None:
    """Say which key a found secret belongs to.

    For secrets that turned up where they should not be. Nothing is used or changed; revoke the key or rotate it next.
    The secret is read from standard input, a file or a hidden prompt.
    """
    reply = session.call(_SERVICE, "IdentifyKey", {"key": read_secret(words, file)})
    session.show(reply, _print_identified)


def _print_page(reply: Message) -> None:
    print_keys(reply["keys"])
    print_page_end(reply, reply["keys"], what="keys match")


def _print_identified(reply: Message) -> None:
    print_key(reply["key"])
    click.echo(f"\nThe secret given is {reply['secretId']} of this key.")
