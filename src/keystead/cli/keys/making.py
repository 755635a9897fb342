"""Where secrets are minted: new keys, and rotations."""

from __future__ import annotations

from typing import Any

import click

from keystead.cli.application import command
from keystead.cli.flags import with_options
from keystead.cli.keys.rendering import print_key
from keystead.cli.limits.options import limit_option, plan_option
from keystead.cli.message import Message
from keystead.cli.output import print_secret
from keystead.cli.parameters import DURATION, ENVIRONMENT, KIND, Identifier, Metadata, Moment, duration_json
from keystead.cli.session import Session, speaks_to_server

_SERVICE = "KeyService"
_KEY_ID = click.argument("key_id", type=Identifier())


@command(
    "create",
    examples=(
        'keystead keys create --owner cus_42 --name "Billing" --environment live --scope read:invoices',
        "keystead keys create --owner cus_42 --create-owner --name CI --environment test --expires 90d",
        "keystead keys create --owner cus_42 --name Sync --environment live --plan starter --limit requests=600/min",
        "keystead keys create --kind management --name deploy --environment all --scope write:keys",
    ),
)
@with_options(
    click.option("--owner", "owner_id", default="", metavar="OWNER_ID", help="For this owner; customer keys need one."),
    click.option("--create-owner", is_flag=True, help="Make the owner when there is none."),
    click.option("--name", required=True, help="What people call the key."),
    click.option("--description", default="", help="What people should know of it."),
    click.option("--environment", type=ENVIRONMENT, required=True, help="Which world; all for management keys alone."),
    click.option("--kind", type=KIND, help="What it is for. [customer]"),
    click.option("--scope", "scopes", multiple=True, help="Allow this, for example read:invoices; repeatable."),
    click.option(
        "--metadata", multiple=True, type=Metadata(), help="Note this; every verification returns it; repeatable."
    ),
    click.option("--tag", "tags", multiple=True, help="Group by this; repeatable."),
    click.option(
        "--allow-ip", "allowed_ips", multiple=True, help="Allow this address or CIDR range; repeatable. [any]"
    ),
    click.option(
        "--expires", "expires_at", type=Moment(), help="Refuse it from then on: a time, a day, or 90d from now."
    ),
    plan_option("Give it this plan, by id or name. [its owner's, or the default]"),
    limit_option("Limit it by this too, in place of its plan's of that name; repeatable."),
)
@speaks_to_server(mutates=True)
def create(session: Session, *, metadata: tuple[tuple[str, str], ...], **given: Any) -> None:
    """Make a key and print its secret, once.

    The secret is what the owner's program sends. Keystead keeps only a hash of it, so nothing can show it again: hand
    it over now, or rotate the key later.
    """
    message = {
        "ownerId": given["owner_id"],
        "createOwner": given["create_owner"] or None,
        "name": given["name"],
        "description": given["description"],
        "environment": given["environment"],
        "kind": given["kind"],
        "scopes": list(given["scopes"]),
        "metadata": dict(metadata),
        "tags": list(given["tags"]),
        "allowedIps": list(given["allowed_ips"]),
        "expiresAt": given["expires_at"],
        "planId": given["plan"],
        "limits": list(given["limits"]),
    }
    session.show(session.change(_SERVICE, "CreateKey", message), _print_minted)


@command(
    "rotate",
    examples=("keystead keys rotate key_01HZX… --overlap 24h", "keystead keys rotate key_01HZX… --overlap 0s --json"),
)
@_KEY_ID
@click.option("--overlap", "overlap_ms", type=DURATION, help="Let the old secret work so long; 0s ends it now. [24h]")
@speaks_to_server(mutates=True)
def rotate(session: Session, *, key_id: str, overlap_ms: int | None) -> None:
    """Replace the secret of KEY_ID and print the new one, once.

    The old secret keeps working until the overlap ends. Nothing can show a secret again; lose it, and you rotate.
    """
    overlap = None if overlap_ms is None else duration_json(overlap_ms)
    session.show(session.change(_SERVICE, "RotateKey", {"keyId": key_id, "overlap": overlap}), _print_minted)


@command("finish", examples=("keystead keys finish key_01HZX…",))
@_KEY_ID
@speaks_to_server(mutates=True)
def finish(session: Session, *, key_id: str) -> None:
    """End a rotation now: the old secret stops working.

    Do it when `keystead keys get` shows that nobody uses the retiring secret any more; otherwise it ends by itself.
    """
    session.show(session.change(_SERVICE, "FinishRotation", {"keyId": key_id}), _print_changed)


@command("cancel", examples=("keystead keys cancel key_01HZX…",))
@_KEY_ID
@speaks_to_server(mutates=True)
def cancel(session: Session, *, key_id: str) -> None:
    """Take a rotation back: the new secret stops working.

    The secret before it is current again and no longer ends. For a new secret that was lost, or handed to the wrong
    people.
    """
    session.show(session.change(_SERVICE, "CancelRotation", {"keyId": key_id}), _print_changed)


def _print_minted(reply: Message) -> None:
    print_key(reply["key"])
    print_secret(reply.get("secret", ""), what="secret")


def _print_changed(reply: Message) -> None:
    print_key(reply["key"])
